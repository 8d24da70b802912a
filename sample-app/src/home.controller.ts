import { Controller, Get } from '@nestjs/common';

const ORDER = JSON.stringify({
  id: 'my-first-order',
  customer: 'Ada',
  email: 'ada@example.com',
  city: 'Oslo',
  card: 'tok_visa',
  lines: [{ sku: 'earl-grey', quantity: 2 }],
});

/** Says how to use the shop. */
@Controller()
export class HomeController {
  @Get()
  help(): object {
    return {
      shop: 'Leaf & Kettle, the sample app of nestjs-orchestration',
      routes: {
        'GET /products': 'what there is to buy, and how much of it',
        'POST /orders': "places an order; card 'tok_declined' is declined, delivery 'slow boat' leaves time to cancel",
        'GET /orders': 'the latest orders',
        'GET /orders/:id': 'an order with its payment and parcels, its family of runs and its history',
        'POST /orders/:id/cancel': 'cancels an order with all that was started for it',
        'GET /approvals': "the orders above € 500, which wait for a manager's approval",
        'POST /approvals/:orderId': 'approves such an order, or refuses it',
      },
      try: [
        `curl -s localhost:3000/orders -H 'content-type: application/json' -d '${ORDER}'`,
        'curl -s localhost:3000/orders/my-first-order',
        'curl -s -X POST localhost:3000/orders/my-first-order/cancel',
      ],
    };
  }
}
