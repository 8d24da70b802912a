/** What processes tell each other outside the hot commit. */
export interface Hints {
  /** Queues with something to claim. */
  queues: string[];
  /** Workers with something to look at among their own runs. */
  workers: string[];
  /** Watched runs that have ended. */
  ended: string[];
  /** Runs that have judged an answer which they were offered. */
  judged?: string[];
  /** Queues whose limits have changed. */
  gates?: string[];
}

/** From process to process. A hint may be lost: what it told of is found by looking, only later. */
export interface HintChannel {
  /** Tells other processes what they may want to look at. */
  announce(hints: Hints): Promise<void>;
  /** False: hints do not come through, so looking is all there is. */
  readonly isHeard: boolean;
  /** Called with the hints of other processes. */
  onHints(listener: (hints: Hints) => void): void;
}
