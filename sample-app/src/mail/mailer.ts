import { Injectable } from '@nestjs/common';
import { Step } from 'nestjs-orchestration';

import { ExternalServices } from '../external/external-services.js';
import { PATIENT } from '../external/patient.js';

export interface Email {
  orderId: string;
  to: string;
  subject: string;
  text: string;
}

@Injectable()
export class Mailer {
  constructor(private readonly services: ExternalServices) {}

  /** Sends an e-mail; without effect when this step has sent it already. */
  @Step({ retry: PATIENT, timeout: '5s' })
  async send(email: Email): Promise<void> {
    await this.services.post('mailer/messages', email);
  }
}
