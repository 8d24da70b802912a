import {
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  ServiceUnavailableException,
} from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { IncomingHttpHeaders } from 'node:http';
import { map, type Observable } from 'rxjs';
import type { Repository } from 'typeorm';

import { ReceivedCall } from './received-call.entity.js';

interface Call {
  path: string;
  headers: IncomingHttpHeaders;
}

/**
 * Lets every fifth call fail with 503, in turn before the work and, which is worse, after it: then the caller cannot
 * know that the card was charged, and calls again.
 */
@Injectable()
export class UnreliableInterceptor implements NestInterceptor {
  constructor(@InjectRepository(ReceivedCall) private readonly calls: Repository<ReceivedCall>) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const answer = await this.record(context.switchToHttp().getRequest<Call>());
    if (answer === 'failed before the work') throw new ServiceUnavailableException();
    if (answer === 'answered') return next.handle();
    return next.handle().pipe(
      map(() => {
        throw new ServiceUnavailableException();
      }),
    );
  }

  /** The number of a call is drawn in the database, so that restarts change nothing. */
  private async record({ path, headers }: Call): Promise<ReceivedCall['answer']> {
    const call = await this.calls.save({
      path,
      idempotencyKey: String(headers['idempotency-key']),
      answer: 'answered',
    });
    const answer = answerTo(call.id);
    if (answer !== 'answered') await this.calls.update(call.id, { answer });
    return answer;
  }
}

function answerTo(callNumber: number): ReceivedCall['answer'] {
  if (callNumber % 10 === 5) return 'failed before the work';
  return callNumber % 10 === 0 ? 'failed after the work' : 'answered';
}
