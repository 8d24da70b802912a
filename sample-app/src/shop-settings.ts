import { Global, Injectable, Module } from '@nestjs/common';
import type { Duration } from 'nestjs-orchestration';

/** What differs between processes and environments; a test overrides this provider. */
@Injectable()
export class ShopSettings {
  /** A PostgreSQL of your own. Without it the shop and its runs live in the embedded one. */
  readonly databaseUrl: string | undefined = process.env.DATABASE_URL || undefined;

  /** The schema of the shop's own tables. */
  readonly schema: string = process.env.SHOP_SCHEMA || 'public';

  /** The schema of the engine's tables. */
  readonly runsSchema: string = process.env.SHOP_RUNS_SCHEMA || 'orchestration';

  /** Whether this process executes runs, or only starts and watches them. */
  readonly isWorker: boolean = process.env.SHOP_WORKER !== 'off';

  /** How long a worker may be silent before others take its runs over. */
  readonly lease: Duration = (process.env.SHOP_LEASE || '30s') as Duration;

  /** An order above this sum, in euro cents, waits for a manager's approval. */
  readonly largeOrderCents: number = 50_000;

  /** How long a large order waits for it. */
  readonly approvalDeadline: Duration = (process.env.SHOP_APPROVAL_DEADLINE || '2d') as Duration;

  /** Where the payment provider and the mailer are; by default this very app plays their parts. */
  readonly externalServicesUrl: string | undefined = process.env.EXTERNAL_SERVICES_URL || undefined;
}

@Global()
@Module({ providers: [ShopSettings], exports: [ShopSettings] })
export class ShopSettingsModule {}
