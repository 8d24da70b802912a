import { TypeOrmModule } from '@nestjs/typeorm';
import { OrchestrationTestBed } from 'nestjs-orchestration/testing';
import { LimitGuard, OrderWorkflow, Payment, Payments, PaymentWorkflow } from './orders';

async function tryBed(): Promise<void> {
  const bed = await OrchestrationTestBed.create({
    connection: { type: 'postgres', url: process.env.DATABASE_URL },
    imports: (connection) => [TypeOrmModule.forRoot({ ...connection, entities: [Payment], synchronize: true })],
    orchestration: { dataSource: 'default' },
    providers: [OrderWorkflow, PaymentWorkflow, Payments, LimitGuard],
  });
  try {
    const run = await bed.start(OrderWorkflow, { id: '4711', amount: 42 });
    const said = await bed.result(run);
    await bed.crash();
    await bed.assertReplays(run.id);
    process.stdout.write(`${said}\n`);
  } finally {
    await bed.close();
  }
}
void tryBed();
