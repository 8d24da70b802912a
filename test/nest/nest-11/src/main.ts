import { Controller, Module, Param, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
import { OrchestrationModule, Orchestrator, RunFailedError } from 'nestjs-orchestration';
import { OrchestrationDashboardModule } from 'nestjs-orchestration/dashboard';
import { OrchestrationTelemetryModule } from 'nestjs-orchestration/telemetry';
import type { Repository } from 'typeorm';
import { LimitGuard, OrderWorkflow, Payment, Payments, PaymentWorkflow } from './orders';

@Controller('orders')
class OrdersController {
  constructor(
    private readonly orchestrator: Orchestrator,
    @InjectRepository(Payment) private readonly payments: Repository<Payment>,
  ) {}

  @Post(':id/:amount')
  async place(@Param('id') id: string, @Param('amount') amount: string): Promise<object> {
    const run = await this.orchestrator.start(OrderWorkflow, { id, amount: Number(amount) }, { key: id });
    const said = await run.result().catch((error: unknown) => {
      if (!(error instanceof RunFailedError)) throw error;
      return error.message;
    });
    return { said, payments: await this.payments.find() };
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: process.env.DATABASE_URL,
      autoLoadEntities: true,
      synchronize: true,
    }),
    TypeOrmModule.forFeature([Payment]),
    OrchestrationModule.forRoot(),
    OrchestrationDashboardModule.forRoot(),
    OrchestrationTelemetryModule.forRoot({ path: '/metrics' }),
  ],
  controllers: [OrdersController],
  providers: [OrderWorkflow, PaymentWorkflow, Payments, LimitGuard],
})
class AppModule {}

async function bootstrap(): Promise<void> {
  const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
  app.enableShutdownHooks();
  await app.listen(0, '127.0.0.1');
  process.stdout.write(`${await app.getUrl()}\n`);
}
void bootstrap();
