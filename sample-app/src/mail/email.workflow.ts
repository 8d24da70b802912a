import { Workflow, type WorkflowHandler } from 'nestjs-orchestration';

import { type Email, Mailer } from './mailer.js';

/** Sends an e-mail. A run of its own, so that nobody has to wait for a mailer that is out of order. */
@Workflow('email')
export class EmailWorkflow implements WorkflowHandler<Email, void> {
  constructor(private readonly mailer: Mailer) {}

  async run(email: Email): Promise<void> {
    await this.mailer.send(email);
  }
}
