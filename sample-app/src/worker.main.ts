import { NestFactory } from '@nestjs/core';

import { AppModule } from './app.module.js';
import { exitWithReason } from './exit-with-reason.js';

/** A process that only executes workflows; start as many as you like. The demo starts, kills and replaces it. */
async function work(): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, {
    abortOnError: false,
    logger: ['warn', 'error', 'fatal'],
  });
  app.enableShutdownHooks();
  // Started by another process it ends with that one, however that one ends.
  process.once('disconnect', () => void app.close());
  process.send?.('ready');
}

await work().catch(exitWithReason);
