import { type OnModuleDestroy, ServiceUnavailableException } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import type { Subscription } from 'rxjs';
import type { RunEvent } from '../engine/events.js';
import type { Orchestrator } from '../engine/orchestrator.js';

/** How many may watch one process. */
const MOST_STREAMS = 200;
/** How many events wait to be sent to one of them; of further ones it learns only that there were some. */
const MOST_WAITING = 200;
const SEND_EVERY_MS = 250;
const HEARTBEAT_EVERY_MS = 15_000;
/** One who has not taken anything for so long is gone. */
const PATIENCE_MS = 60_000;

/**
 * The live updates of those who watch, as server-sent events: what happened, at most four times a second. Nothing grows with
 * the number of events or with the slowness of a reader: what does not fit is left out, and the reader is told to look again.
 * While nobody watches, nothing is asked of the engine.
 */
export class EventStreams implements OnModuleDestroy {
  private readonly streams = new Set<EventStream>();
  private subscription: Subscription | undefined;
  private isClosed = false;

  constructor(private readonly orchestrator: Orchestrator) {}

  /** Answers a request by a stream. */
  open(response: ServerResponse): void {
    const stream = new EventStream(response, () => this.remove(stream));
    this.streams.add(stream);
    this.subscription ??= this.orchestrator.events$.subscribe((event) => {
      for (const open of this.streams) open.push(event);
    });
  }

  /** Called while the request can still be answered otherwise. */
  checkRoom(): void {
    if (this.isClosed) throw unavailable('The server is shutting down.');
    if (this.streams.size >= MOST_STREAMS) throw unavailable(`${MOST_STREAMS} are watching this process already.`);
  }

  /** Before the HTTP server closes, which waits for its connections. */
  onModuleDestroy(): void {
    this.isClosed = true;
    for (const stream of this.streams) stream.end();
  }

  private remove(stream: EventStream): void {
    this.streams.delete(stream);
    if (this.streams.size > 0) return;
    this.subscription?.unsubscribe();
    this.subscription = undefined;
  }
}

class EventStream {
  private waiting: RunEvent[] = [];
  private leftOut = false;
  private sentAt = Date.now();
  private readonly timer: NodeJS.Timeout;

  constructor(
    private readonly response: ServerResponse,
    private readonly onClose: () => void,
  ) {
    // Else the connection would stay open for the next request, and hold up a server that closes.
    response.shouldKeepAlive = false;
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      // No proxy may keep or collect it.
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    });
    response.write('retry: 3000\n\n');
    this.timer = setInterval(() => this.send(), SEND_EVERY_MS);
    response.once('close', () => {
      clearInterval(this.timer);
      this.onClose();
    });
  }

  push(event: RunEvent): void {
    if (this.waiting.length < MOST_WAITING) this.waiting.push(event);
    else this.leftOut = true;
  }

  end(): void {
    this.response.end();
  }

  private send(): void {
    const silentForMs = Date.now() - this.sentAt;
    if (this.response.writableNeedDrain) {
      if (silentForMs > PATIENCE_MS) this.response.destroy();
      return;
    }
    if (this.waiting.length === 0 && silentForMs < HEARTBEAT_EVERY_MS) return;
    this.response.write(this.waiting.length === 0 ? ': heartbeat\n\n' : this.message());
    this.sentAt = Date.now();
  }

  private message(): string {
    const data = JSON.stringify({ events: this.waiting, leftOut: this.leftOut });
    this.waiting = [];
    this.leftOut = false;
    return `event: changes\ndata: ${data}\n\n`;
  }
}

function unavailable(message: string): ServiceUnavailableException {
  return new ServiceUnavailableException({ statusCode: 503, code: 'NO_STREAM', message });
}
