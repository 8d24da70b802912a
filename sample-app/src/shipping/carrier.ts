import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { RunContext, Step } from 'nestjs-orchestration';
import type { Repository } from 'typeorm';

import { Shipment } from './shipment.entity.js';

/** A parcel that is to be handed over. */
export type Parcel = Pick<Shipment, 'orderId' | 'parcel' | 'city' | 'items'>;

/** Keeps the books of the parcels. */
@Injectable()
export class Carrier {
  constructor(
    @InjectRepository(Shipment) private readonly shipments: Repository<Shipment>,
    private readonly ctx: RunContext,
  ) {}

  /** Takes a parcel in and gives its tracking number. It is called back when its run is cancelled with the order. */
  @Step({ transactional: true, compensate: 'callBack' })
  async handOver(parcel: Parcel): Promise<string> {
    const { id } = await this.ctx.manager.save(Shipment, { ...parcel, status: 'in transit' });
    return id;
  }

  @Step()
  async deliver(trackingId: string): Promise<void> {
    await this.shipments.update({ id: trackingId }, { status: 'delivered' });
  }

  @Step()
  async callBack(trackingId: string): Promise<void> {
    await this.shipments.update({ id: trackingId, status: 'in transit' }, { status: 'called back' });
  }
}
