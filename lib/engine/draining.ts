import { performance } from 'node:perf_hooks';
import type { RunExecution } from './run-execution.js';
import type { RunsInMemory } from './runs-in-memory.js';

/** How long without news of any run until it is looked again. */
const LONGEST_PAUSE_MS = 100;

interface DrainingParts {
  runs: RunsInMemory;
  /** Before anybody else has the runs that were dropped. */
  beforeHandBack(): Promise<void>;
  handBack(): Promise<void>;
}

/**
 * The end of a worker: no run is claimed and no step body begins any more. Bodies that run may end, up to a time; each run
 * is handed back as soon as it is at rest, so that another worker goes on with it at once.
 */
export class Draining {
  hasBegun = false;
  private onChange: (() => void) | undefined;

  constructor(private readonly parts: DrainingParts) {}

  /** Resolves when no run executes here any more, or the time is over. The last ones are left to whoever ends the worker. */
  async upTo(timeoutMs: number): Promise<void> {
    this.hasBegun = true;
    const { runs, beforeHandBack, handBack } = this.parts;
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      const idle = runs.executing.filter((execution) => execution.isIdle);
      for (const execution of idle) this.drop(execution);
      if (idle.length) await beforeHandBack();
      if (runs.load.running === 0 && !runs.hasReserved) return;
      if (idle.length) await handBack();
      await this.nextChange(Math.min(LONGEST_PAUSE_MS, deadline - performance.now()));
    }
  }

  /** A run may have come to rest. */
  changed(): void {
    this.onChange?.();
  }

  private drop(execution: RunExecution): void {
    execution.drop('The worker shuts down');
    this.parts.runs.remove(execution);
  }

  private nextChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.onChange = () => (clearTimeout(timer), resolve());
    });
  }
}
