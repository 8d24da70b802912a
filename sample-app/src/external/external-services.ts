import { HttpException, Injectable } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { RunContext } from 'nestjs-orchestration';
import type { Server } from 'node:http';

import { ShopSettings } from '../shop-settings.js';

/** How steps reach other companies' services. */
@Injectable()
export class ExternalServices {
  constructor(
    private readonly ctx: RunContext,
    private readonly settings: ShopSettings,
    private readonly adapterHost: HttpAdapterHost,
  ) {}

  /**
   * Posts to a service, for the step that is running: repeated, the call carries the same Idempotency-Key, and it is
   * broken off when the step is.
   * @throws HttpException with the status of the answer. The engine retries a 503, and a 402 it does not.
   */
  async post(path: string, body: object): Promise<void> {
    const { idempotencyKey, signal } = this.ctx.currentStep;
    const response = await fetch(`${this.baseUrl()}/external/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
      body: JSON.stringify(body),
      signal,
    });
    if (response.ok) return;
    const { message } = (await response.json()) as { message: string };
    throw new HttpException(message, response.status);
  }

  /** This app plays the services itself, unless the settings name another address. */
  private baseUrl(): string {
    if (this.settings.externalServicesUrl) return this.settings.externalServicesUrl;
    const address = (this.adapterHost.httpAdapter.getHttpServer() as Server).address();
    // A run that is taken up during the boot comes before the port is open; the step's next attempt finds it.
    if (address === null || typeof address === 'string') throw new Error('The app does not listen yet');
    return `http://127.0.0.1:${address.port}`;
  }
}
