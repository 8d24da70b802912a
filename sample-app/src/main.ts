import { NestFactory } from '@nestjs/core';

import { AppModule } from './app.module.js';
import { exitWithReason, UsageError } from './exit-with-reason.js';

/** The whole shop in one process: its HTTP side, and the worker that executes its workflows. */
async function serve(): Promise<void> {
  const port = choosePort(process.env.PORT || '3000');
  const app = await NestFactory.create(AppModule, { abortOnError: false });
  // On Ctrl-C running steps end first, and what is left is handed back for the next worker.
  app.enableShutdownHooks();
  await app.listen(port).catch(async (error: unknown) => {
    await app.close();
    throw isPortTaken(error)
      ? new UsageError(`Port ${port} is taken. Choose another: PORT=${port + 1} npm start`)
      : error;
  });
  console.log(`The shop is open: http://localhost:${port}`);
}

function choosePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw new UsageError(`PORT is '${text}': give a whole number from 1 to 65535.`);
}

function isPortTaken(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'EADDRINUSE';
}

await serve().catch(exitWithReason);
