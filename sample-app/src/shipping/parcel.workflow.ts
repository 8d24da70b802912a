import { type Duration, RunContext, Workflow, type WorkflowHandler } from 'nestjs-orchestration';

import { Carrier, type Parcel } from './carrier.js';

export type Delivery = 'standard' | 'express' | 'slow boat';

const TRANSIT_TIMES: Record<Delivery, Duration> = { standard: '1500ms', express: '500ms', 'slow boat': '5m' };

/** Brings one parcel to its city. While it is on its way the run is parked and costs nothing. */
@Workflow('parcel')
export class ParcelWorkflow implements WorkflowHandler<Parcel & { delivery: Delivery }, void> {
  constructor(
    private readonly carrier: Carrier,
    private readonly ctx: RunContext,
  ) {}

  async run({ delivery, ...parcel }: Parcel & { delivery: Delivery }): Promise<void> {
    const trackingId = await this.carrier.handOver(parcel);
    await this.ctx.sleep(TRANSIT_TIMES[delivery]);
    await this.carrier.deliver(trackingId);
  }
}
