import type pg from 'pg';

const AT_A_TIME = 500;

/** Gathers rows while a statement is in flight, and sends them all by the next one: columns as arrays. */
export class GroupCommit<Row extends unknown[]> {
  private gathered: { row: Row; resolve(): void; reject(error: unknown): void }[] = [];
  private isBusy = false;

  constructor(
    private readonly pool: pg.Pool,
    private readonly statement: { name: string; text: string },
  ) {}

  /** Resolves when the row is committed. */
  add(...row: Row): Promise<void> {
    return new Promise((resolve, reject) => {
      this.gathered.push({ row, resolve, reject });
      if (this.isBusy) return;
      this.isBusy = true;
      setImmediate(() => void this.flush());
    });
  }

  private async flush(): Promise<void> {
    while (this.gathered.length > 0) {
      const batch = this.gathered.splice(0, AT_A_TIME);
      const columns = batch[0]!.row.map((_, column) => batch.map(({ row }) => row[column]));
      try {
        await this.pool.query({ ...this.statement, values: columns });
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
      // What those who have just been told do next belongs to the next statement.
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
    this.isBusy = false;
  }
}
