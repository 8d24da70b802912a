import {
  type ArgumentMetadata,
  BadRequestException,
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  createParamDecorator,
  type DynamicModule,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  Injectable,
  Module,
  type NestInterceptor,
  ParseIntPipe,
  type PipeTransform,
  type Provider,
  Scope,
  SetMetadata,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, NestFactory, Reflector } from '@nestjs/core';
import { catchError, map, type Observable, of, throwError } from 'rxjs';

import {
  OrchestrationModule,
  Orchestrator,
  RunContext,
  Step,
  type StepFailedError,
  Workflow,
} from '../../lib/index.js';
import { closeApps, startApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { rewindRun } from '../support/rewind.js';

const AT_ONCE = { retry: { initialInterval: 1 } } as const;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(closeApps);

afterAll(() => database.drop());

function start(...providers: Provider[]) {
  return startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
}

const seen: unknown[] = [];

beforeEach(() => {
  seen.length = 0;
});

@Injectable()
class Users {
  roleOf(user: string): string {
    return user === 'ada' ? 'manager' : 'guest';
  }
}

@Injectable()
class RoleGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly users: Users,
    private readonly ctx: RunContext,
  ) {}

  canActivate(context: ExecutionContext): boolean {
    const role = this.reflector.getAllAndOverride<string>('role', [context.getHandler(), context.getClass()]);
    const [user] = context.getArgs<[string]>();
    seen.push({
      type: context.getType<string>(),
      method: `${context.getClass().name}.${context.getHandler().name}`,
      attempt: this.ctx.currentStep.attempt,
    });
    return this.users.roleOf(user) === role;
  }
}

@Injectable()
class Upper implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler<string>): Observable<string> {
    return next.handle().pipe(map((value) => value.toUpperCase()));
  }
}

@Injectable()
class Trim implements PipeTransform {
  transform(value: unknown, { metatype }: ArgumentMetadata): unknown {
    seen.push(metatype?.name);
    return typeof value === 'string' ? value.trim() : value;
  }
}

class Declined extends Error {}

@Catch(Declined)
class DeclinedFilter implements ExceptionFilter {
  catch(error: Declined): unknown {
    return error.message === 'as an observable'
      ? throwError(() => new BadRequestException('declined'))
      : `declined: ${error.message}`;
  }
}

describe('guards, pipes, interceptors and filters of a step (scenario 74)', () => {
  it('apply: a guard decides by metadata and arguments, and its refusal is the outcome of the attempt', async () => {
    const bodies: string[] = [];

    @Injectable()
    class Approvals {
      @UseGuards(RoleGuard)
      @Step()
      @SetMetadata('role', 'manager')
      async approve(user: string): Promise<string> {
        bodies.push(user);
        return `approved by ${user}`;
      }
    }

    @Workflow('guarded')
    class Guarded {
      constructor(private readonly approvals: Approvals) {}

      run(user: string): Promise<string> {
        return this.approvals.approve(user);
      }
    }
    const { orchestrator, get } = await start(Guarded, Approvals, Users);

    const allowed = await orchestrator.execute(Guarded, 'ada');
    const refused = await orchestrator.start(Guarded, 'bob');

    expect(allowed).toBe('approved by ada');
    await expect(refused.result()).rejects.toMatchObject({
      cause: { code: 'STEP_FAILED', attempts: 1, cause: { name: 'ForbiddenException', message: 'Forbidden resource' } },
    });
    expect(bodies).toEqual(['ada']);
    expect(seen).toEqual(
      ['approve', 'approve'].map((method) => ({ type: 'workflow', method: `Approvals.${method}`, attempt: 1 })),
    );
    // Outside a run a step is a plain method.
    expect(await get(Approvals).approve('bob')).toBe('approved by bob');
    expect(seen).toHaveLength(2);
  });

  it('apply in each attempt, with what the attempt was called with, and not again in a replay', async () => {
    let isReady = false;
    const guard: CanActivate = {
      canActivate: (context) => {
        const [list] = context.getArgs<[string[]]>();
        seen.push([...list]);
        context.getArgs()[0] = ['changed by the guard'];
        if (isReady) return true;
        isReady = true;
        throw new Error('not yet');
      },
    };

    @Workflow('each-attempt')
    class EachAttempt {
      constructor(private readonly ctx: RunContext) {}

      async run(): Promise<string> {
        const first = await this.join(['a', 'b']);
        await this.ctx.sleep(1);
        return first;
      }

      @Step(AT_ONCE)
      @UseGuards(guard)
      async join(list: string[]): Promise<string> {
        return `${list.join()} in attempt ${this.ctx.currentStep.attempt}`;
      }
    }
    const { orchestrator } = await start(EachAttempt);
    const run = await orchestrator.start(EachAttempt, undefined);
    const output = await run.result();

    // To the step's outcome, after the row of its failed attempt.
    await rewindRun(database, run.id, 2);

    expect(await orchestrator.result(run.id)).toBe(output);
    expect(output).toBe('changed by the guard in attempt 2');
    expect(seen).toEqual([
      ['a', 'b'],
      ['a', 'b'],
    ]);
  });

  it('apply: interceptors change results and errors, around the pipes, in the context of the run', async () => {
    const outer: NestInterceptor = {
      intercept: (context, next) => {
        seen.push(`before ${String(context.getArgs()[0])}`);
        return next.handle().pipe(
          map((value) => `<${value}>`),
          catchError((error: Error) => of(`caught ${error.message}`)),
        );
      },
    };

    @UseInterceptors(outer)
    @Workflow('intercepted')
    class Intercepted {
      constructor(private readonly ctx: RunContext) {}

      async run(): Promise<string[]> {
        return [await this.greet(' ada '), await this.fail(), await this.empty()];
      }

      @UseInterceptors(Upper)
      @UsePipes(Trim)
      @Step()
      async greet(name: string): Promise<string> {
        await this.ctx.sleep(1);
        return `${this.ctx.currentStep.step} ${name}`;
      }

      @Step()
      fail(): Promise<string> {
        throw new Error('the body');
      }

      @UseInterceptors({ intercept: () => of() })
      @Step()
      async empty(): Promise<string> {
        return 'never asked';
      }
    }
    const { orchestrator } = await start(Intercepted);
    const run = await orchestrator.start(Intercepted, undefined);

    expect(await run.result()).toEqual(['<GREET ADA>', 'caught the body', undefined]);
    expect(seen.filter((text) => String(text).startsWith('before'))).toEqual(
      expect.arrayContaining(['before  ada ', 'before undefined']),
    );
    expect(
      (await orchestrator.history(run.id)).filter(({ kind }) => kind === 'step').map(({ status }) => status),
    ).toEqual(['completed', 'completed', 'completed']);
  });

  it('apply: pipes get every argument, of the method as of the class, then those of a parameter', async () => {
    const Argument = createParamDecorator(
      (index: number, context: ExecutionContext): unknown => context.getArgs()[index],
    );

    @UsePipes(Trim)
    @Injectable()
    class Piped {
      @Step()
      async join(first: string, second: number, ...rest: string[]): Promise<unknown[]> {
        return [first, second, ...rest];
      }

      @Step(AT_ONCE)
      async parse(name: string, @Argument(1, ParseIntPipe) count: number, unit = 'none'): Promise<unknown[]> {
        return [name, count, unit];
      }
    }

    @Workflow('piped')
    class PipedWorkflow {
      constructor(private readonly piped: Piped) {}

      async run(count: string): Promise<unknown[]> {
        return [await this.piped.join(' a ', 1, ' b ', ' c '), await this.piped.parse(' d ', count as never)];
      }
    }
    const { orchestrator } = await start(PipedWorkflow, Piped);

    expect(await orchestrator.execute(PipedWorkflow, ' 42 ')).toEqual([
      ['a', 1, 'b', 'c'],
      ['d', 42, 'none'],
    ]);
    expect(seen.slice(0, 2)).toEqual(['String', 'Number']);
    const refused = await orchestrator.start(PipedWorkflow, 'many');
    await expect(refused.result()).rejects.toMatchObject({
      cause: { code: 'STEP_FAILED', attempts: 1, cause: { name: 'BadRequestException', status: 400 } },
    });
  });

  it('apply: what a filter returns or throws is the outcome, and what it does not catch goes through', async () => {
    const looking: ExceptionFilter = { catch: (error: Error) => void seen.push(error.message) };

    @Workflow('filtered')
    class Filtered {
      async run(message: string): Promise<unknown> {
        return message === 'another error' ? this.other() : this.decline(message);
      }

      @UseFilters(DeclinedFilter)
      @Step(AT_ONCE)
      decline(message: string): Promise<string> {
        return Promise.reject(new Declined(message));
      }

      @UseFilters(looking, DeclinedFilter)
      @Step({ retry: { maxAttempts: 2, initialInterval: 1 } })
      other(): Promise<string> {
        return Promise.reject(new RangeError('another error'));
      }
    }
    const { orchestrator } = await start(Filtered);
    const causeOf = async (message: string) => {
      const run = await orchestrator.start(Filtered, message);
      const error = await run.result().catch((thrown: unknown) => thrown);
      const { attempts, cause } = (error as { cause: StepFailedError & { cause: Error } }).cause;
      return [attempts, cause.name];
    };

    expect(await orchestrator.execute(Filtered, 'no money')).toBe('declined: no money');
    // A BadRequestException, which is not tried again.
    expect(await causeOf('as an observable')).toEqual([1, 'BadRequestException']);
    expect(await causeOf('another error')).toEqual([2, 'RangeError']);
    expect(seen).toEqual(['another error', 'another error']);
  });

  it('apply to the steps of a flow', async () => {
    @UsePipes(Trim)
    @Workflow('enhanced-flow')
    class EnhancedFlow {
      @Step()
      first(name: string): string {
        return ` ${name}! `;
      }

      @UseInterceptors(Upper)
      @Step()
      async second(greeting: string): Promise<string> {
        return greeting;
      }
    }
    const { orchestrator } = await start(EnhancedFlow);

    expect(await orchestrator.start('enhanced-flow', ' ada ').then((run) => run.result())).toBe('ADA!');
  });

  it("leave the app's global ones to its requests", async () => {
    const global = (what: string) => () => void seen.push(what);

    @Injectable()
    class HttpGuard implements CanActivate {
      canActivate(context: ExecutionContext): boolean {
        global('guard')();
        return context.switchToHttp().getRequest<{ headers: { host: string } }>().headers.host !== '';
      }
    }
    @Catch()
    class HttpFilter implements ExceptionFilter {
      catch(): string {
        return 'the filter of the app';
      }
    }
    const mapping: NestInterceptor = { intercept: (_, next) => (global('interceptor')(), next.handle()) };
    const piping: PipeTransform = { transform: (value: unknown) => (global('pipe')(), value) };

    @UseInterceptors(Upper)
    @Workflow('beside-http')
    class BesideHttp {
      async run(): Promise<string> {
        return this.work('x').catch(() => 'failed');
      }

      @Step()
      async work(value: string): Promise<string> {
        return value;
      }
    }
    @Controller()
    class HttpController {
      constructor(private readonly orchestrator: Orchestrator) {}

      @Get()
      run(): Promise<string> {
        return this.orchestrator.execute(BesideHttp, undefined);
      }
    }
    @Module({})
    class HttpModule {}
    const root: DynamicModule = {
      module: HttpModule,
      imports: [OrchestrationModule.forRoot({ connection: database.connection })],
      controllers: [HttpController],
      providers: [
        BesideHttp,
        { provide: APP_GUARD, useClass: HttpGuard },
        { provide: APP_FILTER, useClass: HttpFilter },
        { provide: APP_INTERCEPTOR, useValue: mapping },
        { provide: APP_PIPE, useValue: piping },
      ],
    };
    const app = await NestFactory.create(root, { logger: false, abortOnError: false });
    try {
      app.useGlobalGuards(new HttpGuard());
      await app.listen(0, '127.0.0.1');

      expect(await (await fetch(await app.getUrl())).text()).toBe('X');
      expect(seen).toEqual(['guard', 'guard', 'interceptor']);
    } finally {
      await app.close();
    }
  });

  it('cost nothing where there are none: the body is called as it is', async () => {
    const stacks: Record<string, string> = {};

    @Injectable()
    class Mixed {
      @Step()
      async plain(): Promise<void> {
        stacks['plain'] = new Error().stack!;
      }

      @UseInterceptors(Upper)
      @Step()
      async enhanced(): Promise<string> {
        stacks['enhanced'] = new Error().stack!;
        return '';
      }
    }
    @Workflow('mixed')
    class MixedWorkflow {
      constructor(private readonly mixed: Mixed) {}

      async run(): Promise<void> {
        await this.mixed.plain();
        await this.mixed.enhanced();
      }
    }
    const { orchestrator } = await start(MixedWorkflow, Mixed);

    await orchestrator.execute(MixedWorkflow, undefined);

    expect(stacks['enhanced']).toContain('lib/nest/step-enhancers');
    expect(stacks['plain']).not.toContain('lib/nest/step-enhancers');
  });

  it('that would not apply are refused at boot, all at once', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class RequestGuard implements CanActivate {
      canActivate(): boolean {
        return true;
      }
    }
    @Injectable()
    class MadeByHand {
      @UsePipes(Trim)
      @Step()
      async work(): Promise<void> {}
    }
    @Injectable({ scope: Scope.REQUEST })
    class PerRequest {
      @UseInterceptors(Upper)
      @Step()
      async work(): Promise<void> {}
    }
    @Workflow('wrong-enhancers')
    class WrongEnhancers {
      @UseGuards(RoleGuard)
      async run(): Promise<void> {}

      @UseGuards(RequestGuard)
      @UsePipes(new Trim())
      @Step()
      async work(): Promise<void> {}
    }

    const boot = start(WrongEnhancers, Users, { provide: MadeByHand, useFactory: () => new MadeByHand() }, PerRequest);

    await expect(boot).rejects.toMatchObject({
      code: 'DEFINITION',
      problems: expect.arrayContaining([
        expect.stringMatching(/^WrongEnhancers\.run: a guard applies to steps/),
        expect.stringMatching(/^WrongEnhancers\.work: the guard RequestGuard .*default scope/),
        expect.stringMatching(/^PerRequest\.work: .*default scope/),
        expect.stringMatching(/^MadeByHand\.work: the pipe Trim is not made by Nest/),
      ]) as unknown,
    });
  });
});
