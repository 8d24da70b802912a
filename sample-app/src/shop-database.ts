import type { TypeOrmModuleOptions } from '@nestjs/typeorm';
import { embeddedPostgres } from 'nestjs-orchestration';

import type { ShopSettings } from './shop-settings.js';

/** Your PostgreSQL if there is one, else the embedded one, which is started on first use. */
export async function shopDatabase({ databaseUrl, schema }: ShopSettings): Promise<TypeOrmModuleOptions> {
  const server = databaseUrl ? { type: 'postgres' as const, url: databaseUrl } : await embeddedPostgres();
  return {
    ...server,
    schema,
    autoLoadEntities: true,
    // Good enough for a sample; a shop with customers has migrations.
    synchronize: true,
    // A wrong address is told at once instead of after half a minute.
    retryAttempts: 0,
  };
}
