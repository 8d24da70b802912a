import { readArguments, USAGE } from './demo/arguments.js';
import { Demo } from './demo/demo.js';
import { DemoShop } from './demo/demo-shop.js';
import { readOrdersFile } from './demo/orders-file.js';
import { Report } from './demo/report.js';
import { withSlowBoat } from './demo/slow-boats.js';
import { exitWithReason, UsageError } from './exit-with-reason.js';

async function main(): Promise<void> {
  const { file, help } = readArguments(process.argv.slice(2));
  if (help) return console.log(USAGE);
  const orders = withSlowBoat(await readOrdersFile(file));
  const report = new Report();
  const interruption = untilInterrupted();

  const shop = await report.stage(
    'The shop opens',
    () => DemoShop.open(),
    (opened) => opened.description,
  );
  try {
    const isSound = await Promise.race([new Demo(shop, report, orders).run(), interruption]);
    process.exitCode = isSound ? 0 : 1;
  } finally {
    await shop.close();
  }
}

function untilInterrupted(): Promise<never> {
  const interruption = new Promise<never>((_resolve, reject) => {
    const interrupt = () => reject(new UsageError('Interrupted'));
    // Not `once`: the spinner ends the process by itself when it finds that nobody else listens (any more).
    process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  });
  // It may come before anybody waits for it: then the shop opens, and closes at once.
  interruption.catch(() => undefined);
  return interruption;
}

// The exit is explicit, since what an interruption left behind may still be waiting for something.
await main().then(() => process.exit(), exitWithReason);
