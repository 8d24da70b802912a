import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

type Direction = 'up' | 'down';

interface Pair {
  client: Socket;
  upstream: Socket;
  isStranded: boolean;
}

/** Bytes, or the end of the stream. */
interface Delivery {
  at: number;
  bytes: Buffer | null;
}

const POLL_WHILE_CUT_MS = 20;

/**
 * A TCP fault injector between a worker and PostgreSQL: one proxy per worker, so that one worker alone can be cut off.
 *
 * @example
 * const proxy = new ChaosProxy(5432);
 * const port = await proxy.listen();
 * proxy.latencyMs = 50; proxy.blackhole(4000); proxy.cutReplies(3000); proxy.reset(); proxy.refuse = true; proxy.heal();
 */
export class ChaosProxy {
  /** Added to every message, in both directions. */
  latencyMs = 0;
  /** Whether new connections are turned away. */
  refuse = false;
  #isOpen: Record<Direction, boolean> = { up: true, down: true };
  readonly #pairs = new Set<Pair>();
  readonly #queues: Record<Direction, Set<Delivery[]>> = { up: new Set(), down: new Set() };
  #server: Server | undefined;

  constructor(
    readonly upstreamPort: number,
    readonly upstreamHost = '127.0.0.1',
  ) {}

  /** Starts to listen on 127.0.0.1 and gives the port. */
  async listen(port = 0): Promise<number> {
    const server = createServer({ pauseOnConnect: true, noDelay: true }, (client) => this.#connect(client));
    this.#server = server;
    await new Promise<void>((ready) => server.listen(port, '127.0.0.1', ready));
    return (server.address() as AddressInfo).port;
  }

  /** Silence in both directions, without FIN or RST, until `heal` or for a time. */
  blackhole(forMs?: number): void {
    this.#isOpen = { up: false, down: false };
    this.#healAfter(forMs);
  }

  /** The database executes, the worker never hears of it: an ambiguous commit. */
  cutReplies(forMs?: number): void {
    this.#isOpen = { up: true, down: false };
    this.#healAfter(forMs);
  }

  /** The connections of this moment fall silent until `heal`, as behind a firewall that forgot them; new ones work. */
  strand(): void {
    for (const pair of this.#pairs) pair.isStranded = true;
  }

  /** Whether something with this text is on its way to the database, and held back. */
  holdsBack(text: string): boolean {
    return [...this.#queues.up].some((queue) => queue.some(({ bytes }) => bytes?.includes(text)));
  }

  /** As if nothing had been; what was held back is delivered. */
  heal(): void {
    this.#isOpen = { up: true, down: true };
    for (const pair of this.#pairs) pair.isStranded = false;
    this.latencyMs = 0;
    this.refuse = false;
  }

  /** RST on every live connection. */
  reset(): void {
    for (const { client, upstream } of this.#pairs) {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
  }

  close(): void {
    this.reset();
    this.#server?.close();
  }

  #healAfter(forMs: number | undefined): void {
    if (forMs) setTimeout(() => this.heal(), forMs);
  }

  #connect(client: Socket): void {
    if (this.refuse) {
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ port: this.upstreamPort, host: this.upstreamHost, noDelay: true });
    const pair: Pair = { client, upstream, isStranded: false };
    this.#pairs.add(pair);
    this.#pump(pair, 'up');
    this.#pump(pair, 'down');
    client.resume();
    upstream.on('close', () => this.#pairs.delete(pair));
    upstream.on('error', () => client.resetAndDestroy());
  }

  /** An ordered delay line. While its direction is cut, bytes and FINs are held back, as TCP would retransmit them. */
  #pump(pair: Pair, direction: Direction): void {
    const [from, to] = direction === 'up' ? [pair.client, pair.upstream] : [pair.upstream, pair.client];
    const queue: Delivery[] = [];
    this.#queues[direction].add(queue);
    to.on('close', () => this.#queues[direction].delete(queue));
    let timer: NodeJS.Timeout | undefined;
    const flush = (): void => {
      timer = undefined;
      for (let next = queue[0]; next; next = queue[0]) {
        const isOpen = this.#isOpen[direction] && !pair.isStranded;
        const waitMs = isOpen ? next.at - Date.now() : POLL_WHILE_CUT_MS;
        if (waitMs > 0) {
          timer = setTimeout(flush, waitMs);
          return;
        }
        queue.shift();
        if (next.bytes) to.write(next.bytes);
        else to.end();
      }
    };
    const push = (bytes: Buffer | null): void => {
      queue.push({ at: Date.now() + this.latencyMs, bytes });
      if (!timer) flush();
    };
    from.on('data', push);
    from.on('end', () => push(null));
    from.on('error', () => to.destroy());
  }
}
