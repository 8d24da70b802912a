import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';

import { ApprovalsService, type PendingApproval } from './approvals.service.js';

@Controller('approvals')
export class ApprovalsController {
  constructor(private readonly approvals: ApprovalsService) {}

  @Get()
  list(): Promise<PendingApproval[]> {
    return this.approvals.list();
  }

  @Post(':orderId')
  @HttpCode(204)
  answer(@Param('orderId') orderId: string, @Body('approved') isApproved: unknown): Promise<void> {
    return this.approvals.answer(orderId, isApproved);
  }
}
