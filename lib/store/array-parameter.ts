/** The types of columns that statements take as arrays. */
export type ColumnType = 'uuid' | 'text' | 'int' | 'float8' | 'bool';

interface ElementFormat {
  /** The type's number in pg_type. */
  oid: number;
  sizeOf(value: unknown): number;
  write(buffer: Buffer, value: unknown, at: number): void;
}

const FORMATS: Record<ColumnType, ElementFormat> = {
  uuid: {
    oid: 2950,
    sizeOf: () => 16,
    write: (buffer, value, at) => writeUuid(buffer, value as string, at),
  },
  text: {
    oid: 25,
    sizeOf: (value) => Buffer.byteLength(value as string),
    write: (buffer, value, at) => void buffer.write(value as string, at),
  },
  int: { oid: 23, sizeOf: () => 4, write: (buffer, value, at) => void buffer.writeInt32BE(value as number, at) },
  float8: { oid: 701, sizeOf: () => 8, write: (buffer, value, at) => void buffer.writeDoubleBE(value as number, at) },
  bool: { oid: 16, sizeOf: () => 1, write: (buffer, value, at) => void buffer.writeUInt8(value ? 1 : 0, at) },
};

const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;

/**
 * One column of many rows, as a parameter of a statement.
 *
 * In PostgreSQL's binary form it costs a fraction of what node-postgres spends on the literal `{"…","…"}`: 1 instead of
 * 130 ms for a megabyte of JSON, each of whose quotes would be escaped.
 */
export class ArrayParameter {
  constructor(
    private readonly type: ColumnType,
    /** For a client that may not know the binary form: any makes a literal of an array. */
    readonly values: readonly unknown[],
  ) {}

  /**
   * Called by node-postgres. What array_recv reads: the number of dimensions, whether there are nulls, the type, the length and
   * the lower bound; then each element behind its own length.
   */
  toPostgres(): Buffer {
    const { values } = this;
    const { oid, sizeOf, write } = FORMATS[this.type];
    const lengths = values.map((value) => (value === null ? NULL_LENGTH : sizeOf(value)));
    const header =
      values.length === 0 ? [0, 0, oid] : [1, lengths.includes(NULL_LENGTH) ? 1 : 0, oid, values.length, 1];
    const bytes = lengths.reduce(
      (sum, length) => sum + LENGTH_BYTES + Math.max(0, length),
      LENGTH_BYTES * header.length,
    );
    const buffer = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const field of header) at = buffer.writeInt32BE(field, at);
    values.forEach((value, index) => {
      const length = lengths[index]!;
      at = buffer.writeInt32BE(length, at);
      if (length === NULL_LENGTH) return;
      write(buffer, value, at);
      at += length;
    });
    return buffer;
  }
}

const DASH = 0x2d;

/** By hand: taking the dashes out and decoding the rest as hex takes four times as long. */
function writeUuid(buffer: Buffer, uuid: string, at: number): void {
  let high: number | undefined;
  let position = at;
  for (let index = 0; index < uuid.length; index++) {
    const code = uuid.charCodeAt(index);
    if (code === DASH) continue;
    // The last four bits of '0' to '9' are the digit; those of 'a' and 'A' are one.
    const digit = (code & 15) + (code > 0x39 ? 9 : 0);
    if (high !== undefined) buffer[position++] = high | digit;
    high = high === undefined ? digit << 4 : undefined;
  }
}
