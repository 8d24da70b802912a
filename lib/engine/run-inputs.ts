import { identityKey } from './command.js';
import { CancelledError, UnreadablePayloadError } from './errors.js';
import type { GivenAnswer, InputIdentity } from './input-store.js';
import type { InputWaitCommand } from './input-wait.js';
import type { RunExecution } from './run-execution.js';
import type { WriteBuffer } from './write-buffer.js';

/**
 * The inputs that a run waits for, and the answers that it is given.
 *
 * The row of an input is written with what the wait parks by and removed with what it ends by, so people see exactly what
 * the run waits for. An answer wakes the run (it counts in `wakes`); the run looks for answers whenever it was touched,
 * and once when it asks again after a replay, since an earlier pass may have been given one. So an answer is either
 * committed before a look, or its wake-up makes another one necessary.
 * A timeout first closes the row in the database and then looks: an answer that got there before is taken, and none can
 * come after. A process that dies in between leaves an open wait that is over, and the next one does the same again.
 */
export class RunInputs {
  private readonly waits = new Map<string, InputWaitCommand>();
  /** Offers that a schema is at. */
  private readonly judging = new Set<string>();
  private isLooking = false;
  private looksAgain = false;

  constructor(
    private readonly execution: RunExecution,
    private readonly writes: WriteBuffer,
  ) {}

  ask(wait: InputWaitCommand): void {
    this.waits.set(identityKey(wait.identity), wait);
    this.writes.addEffects((effects) => effects.asks.push(wait.asked));
    const { fresh, wakes } = this.execution.run;
    if (!fresh && wakes > 0) this.look();
  }

  get isAwaited(): boolean {
    for (const wait of this.waits.values()) if (!wait.isTaken) return true;
    return false;
  }

  /** Looks once more for answers of which nobody has told yet, and then does that. */
  lookBefore(then: () => void): void {
    void this.execution.lookUp(async () => {
      try {
        await this.lookOnce();
      } finally {
        then();
      }
    });
  }

  /** The wait has ended, with an answer or without. */
  close(wait: InputWaitCommand): void {
    this.waits.delete(identityKey(wait.identity));
    if (this.execution.isLive) this.writes.addEffects((effects) => effects.closes.push(wait.identity));
  }

  /** The run ends: it waits for nothing any more. An earlier pass may have left questions that this one has not asked. */
  closeAll(): void {
    if (this.execution.run.fresh && this.waits.size === 0) return;
    this.waits.clear();
    this.writes.addEffects((effects) => (effects.closesInputs = true));
  }

  /** The attempt of a step has ended: what its body still waits for, nobody takes. */
  leaveBehind(scope: string): void {
    for (const wait of [...this.waits.values()])
      if (wait.identity.scope.startsWith(scope)) wait.endBy(new CancelledError('left behind'));
  }

  /** Looks for answers. Asked for during a look, it is done once more: what came meanwhile may not have been seen. */
  look(): void {
    if (!this.isAwaited) return;
    this.looksAgain = true;
    if (this.isLooking) return;
    this.isLooking = true;
    void this.execution.lookUp(async () => {
      try {
        while (this.looksAgain) await this.lookOnce();
      } finally {
        this.isLooking = false;
      }
    });
  }

  /** The time of the wait is over: it ends, unless there is an answer. */
  expire(wait: InputWaitCommand): void {
    void this.execution.lookUp(async () => {
      await this.store.expire(this.rowOf(wait));
      const given = await this.lookOnce();
      if (wait.open && !given.some((answer) => this.waitFor(answer) === wait)) wait.timeOut();
    });
  }

  private async lookOnce(): Promise<GivenAnswer[]> {
    this.looksAgain = false;
    const given = await this.store.given(this.execution.run.id);
    const received = given.map((answer) => ({ answer, taken: this.receive(answer) }));
    // What a schema takes its time for does not hold up what else is due.
    await Promise.all(received.filter(({ answer }) => answer.state === 'answered').map(({ taken }) => taken));
    return given;
  }

  private async receive(given: GivenAnswer): Promise<void> {
    const wait = this.waitFor(given);
    if (!wait || wait.isTaken) return;
    wait.holdTimeout(given.offeredUntil);
    if (this.judging.has(given.id)) return;
    this.judging.add(given.id);
    await this.execution.lookUp(async () => {
      try {
        await this.judge(wait, given);
      } catch (error) {
        if (!(error instanceof UnreadablePayloadError)) throw error;
        this.execution.block(error);
      } finally {
        this.judging.delete(given.id);
      }
    });
  }

  private async judge(wait: InputWaitCommand, given: GivenAnswer): Promise<void> {
    const judged = await wait.judge(given);
    const { run, serializer } = this.execution;
    const { epoch } = run;
    if ('issues' in judged) {
      await this.store.refuse(given, { epoch, issues: serializer.encode(judged.issues, 'issues') });
      wait.resumeTimeout();
    } else if (given.state === 'answered' || (await this.store.accept(given, { epoch, output: judged.output }))) {
      wait.take(judged.output, given.answeredAt);
    } else {
      wait.resumeTimeout();
    }
  }

  private waitFor(given: GivenAnswer): InputWaitCommand | undefined {
    return this.waits.get(identityKey({ kind: 'input', ...given }));
  }

  private rowOf({ identity: { scope, name, ordinal } }: InputWaitCommand): InputIdentity {
    return { runId: this.execution.run.id, scope, name, ordinal };
  }

  private get store() {
    return this.execution.host.store.inputs;
  }
}
