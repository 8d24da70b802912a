import { InputNotPendingError } from 'nestjs-orchestration';

import type { ApprovalsService } from '../orders/approvals.service.js';

export type Decision = 'approved' | 'refused' | 'overlooked';

/** She approves the first order that she is asked about, and all from the fourth on. */
const DECISIONS: Decision[] = ['approved', 'refused', 'overlooked'];
const WORDS: Record<Decision, string> = {
  approved: 'The manager says yes',
  refused: 'The manager says no',
  overlooked: 'The manager overlooks it',
};

/** Plays the manager whom large orders wait for. */
export class Manager {
  /** By order. */
  readonly decisions = new Map<string, Decision>();

  constructor(private readonly approvals: ApprovalsService) {}

  /** Answers what has come up since the last time. */
  async answer(say: (text: string) => void): Promise<void> {
    for (const { orderId, prompt } of await this.approvals.list()) {
      if (this.decisions.has(orderId)) continue;
      const decision = await this.decide(orderId, DECISIONS[this.decisions.size] ?? 'approved');
      this.decisions.set(orderId, decision);
      say(`${prompt} ${WORDS[decision]}`);
    }
  }

  private async decide(orderId: string, decision: Decision): Promise<Decision> {
    if (decision === 'overlooked') return decision;
    try {
      await this.approvals.answer(orderId, decision === 'approved');
      return decision;
    } catch (error) {
      // The deadline was faster.
      if (error instanceof InputNotPendingError) return 'overlooked';
      throw error;
    }
  }
}
