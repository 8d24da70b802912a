import { ChildOrchestrator, Workflow, type WorkflowHandler } from 'nestjs-orchestration';

import { type Delivery, ParcelWorkflow } from './parcel.workflow.js';

/** What to send where. */
export interface ShippingRequest {
  orderId: string;
  city: string;
  delivery: Delivery;
  /** How many items there are in all. */
  items: number;
}

const ITEMS_PER_PARCEL = 12;

/** Sends an order in as many parcels as it takes, each a child of its own, and waits for all of them. */
@Workflow('shipping')
export class ShippingWorkflow implements WorkflowHandler<ShippingRequest, { parcels: number }> {
  constructor(private readonly children: ChildOrchestrator) {}

  async run({ items, ...request }: ShippingRequest): Promise<{ parcels: number }> {
    const parcels = pack(items).map((size, index) => ({ ...request, parcel: index + 1, items: size }));
    await this.children.map(ParcelWorkflow, parcels, { ref: ({ parcel }) => `parcel ${parcel}` });
    return { parcels: parcels.length };
  }
}

/** The sizes of the parcels. */
function pack(items: number): number[] {
  const count = Math.ceil(items / ITEMS_PER_PARCEL);
  return Array.from({ length: count }, (_, index) => Math.min(ITEMS_PER_PARCEL, items - index * ITEMS_PER_PARCEL));
}
