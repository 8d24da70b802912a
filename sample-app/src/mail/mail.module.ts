import { Module } from '@nestjs/common';

import { EmailWorkflow } from './email.workflow.js';
import { Mailer } from './mailer.js';

@Module({ providers: [Mailer, EmailWorkflow] })
export class MailModule {}
