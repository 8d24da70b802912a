import { type ExecutionContext, ForbiddenException, type PipeTransform, type Type } from '@nestjs/common';
import {
  EXCEPTION_FILTERS_METADATA,
  GUARDS_METADATA,
  INTERCEPTORS_METADATA,
  PIPES_METADATA,
  ROUTE_ARGS_METADATA,
} from '@nestjs/common/constants.js';
import type { DiscoveryService, ModulesContainer, NestContainer } from '@nestjs/core';
import { ExternalExceptionFilterContext } from '@nestjs/core/exceptions/external-exception-filter-context.js';
import { FORBIDDEN_MESSAGE } from '@nestjs/core/guards/constants.js';
import { GuardsConsumer } from '@nestjs/core/guards/guards-consumer.js';
import { GuardsContextCreator } from '@nestjs/core/guards/guards-context-creator.js';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';
import { InterceptorsConsumer } from '@nestjs/core/interceptors/interceptors-consumer.js';
import { InterceptorsContextCreator } from '@nestjs/core/interceptors/interceptors-context-creator.js';
import { PipesContextCreator } from '@nestjs/core/pipes/pipes-context-creator.js';
import { isObservable, lastValueFrom } from 'rxjs';
import { type StepBody, type StepDeclaration, stepsOf, workflowOptionsOf } from './decorators.js';

type Provider = ReturnType<DiscoveryService['getProviders']>[number];
type ProviderClass = Type<object>;
type CustomParameter = (data: unknown, context: ExecutionContext) => unknown;

/** What `context.getType()` is in the guards, pipes, interceptors and filters of a step. */
const CONTEXT_TYPE = 'workflow';
const ENHANCERS = {
  guard: GUARDS_METADATA,
  interceptor: INTERCEPTORS_METADATA,
  filter: EXCEPTION_FILTERS_METADATA,
  pipe: PIPES_METADATA,
} as const;

/** A step method of one provider that has enhancers, on itself, on its parameters or on its class. */
interface EnhancedStep {
  provider: Provider;
  target: ProviderClass;
  declaration: StepDeclaration;
}

/** A parameter that is decorated: with pipes, or with where its value comes from. */
interface ParameterMetadata {
  index: number;
  data?: unknown;
  factory?: CustomParameter;
  pipes: (PipeTransform | Type<PipeTransform>)[];
}

/**
 * Guards, pipes, interceptors and filters of step methods. They are put together once, at boot, and run inside each
 * attempt: what they throw or return is what the body would have. The app's global ones are not among them: those are
 * written for its requests. A step without any never comes here.
 */
export class StepEnhancers {
  private readonly steps: EnhancedStep[];
  private readonly guards: GuardsContextCreator;
  private readonly pipes: PipesContextCreator;
  private readonly interceptors: InterceptorsContextCreator;
  private readonly filters: ExternalExceptionFilterContext;
  private readonly guardsConsumer = new GuardsConsumer();
  private readonly interceptorsConsumer = new InterceptorsConsumer();

  constructor(
    private readonly discovery: DiscoveryService,
    private readonly modules: ModulesContainer,
  ) {
    // Without the config of the app, which has the global enhancers, and of the container with what they ask it for.
    const container = { getModules: () => modules } as NestContainer;
    this.guards = new GuardsContextCreator(container);
    this.pipes = new PipesContextCreator(container);
    this.interceptors = new InterceptorsContextCreator(container);
    this.filters = new ExternalExceptionFilterContext(container);
    this.steps = discovery.getProviders().flatMap(enhancedStepsOf);
  }

  /** What is wrong with them, for the report at boot: an enhancer that would silently not apply must not start. */
  problems(): string[] {
    return [
      ...new Set([
        ...this.steps.flatMap((step) => this.problemsOf(step)),
        ...this.discovery.getProviders().flatMap(runProblems),
      ]),
    ];
  }

  /** Puts them around the steps of each provider. Needs the instances. */
  apply(): void {
    for (const { provider, declaration } of this.steps) {
      const instance = provider.instance as object;
      declaration.enhanced ??= new WeakMap();
      declaration.enhanced.set(instance, this.enhance(instance, declaration, provider.host!.token));
    }
  }

  private enhance(instance: object, { method, step, body }: StepDeclaration, moduleKey: string): StepBody {
    const guards = this.guards.create(instance, step, moduleKey);
    const interceptors = this.interceptors.create(instance, step, moduleKey);
    const filter = this.filters.create(
      instance,
      step as Parameters<ExternalExceptionFilterContext['create']>[1],
      moduleKey,
    );
    const pipesOf = this.pipesOf(instance, { method, step, moduleKey });
    const { guardsConsumer, interceptorsConsumer } = this;

    return async function enhanced(...given: unknown[]): Promise<unknown> {
      const args = [...given];
      const context = contextOf(args, instance, step);
      try {
        if (!(await guardsConsumer.tryActivate(guards, args, instance, step, CONTEXT_TYPE)))
          throw new ForbiddenException(FORBIDDEN_MESSAGE);
        const call = async () => body.apply(instance, await pipesOf(args, context));
        return await valueOf(
          await interceptorsConsumer.intercept(interceptors, args, instance, step, call, CONTEXT_TYPE),
        );
      } catch (error) {
        // A filter that returns nothing has looked at the error, and lets it through; Nest 11 says null where there is none.
        const mapped = await valueOf(filter.invokeCustomFilters(error, context));
        if (mapped === undefined || mapped === null) throw error;
        return mapped;
      }
    };
  }

  /** What the body gets for the arguments of a call: those of the class and the method for each, then a parameter's own. */
  private pipesOf(
    instance: object,
    { method, step, moduleKey }: { method: string; step: StepBody; moduleKey: string },
  ): (args: unknown[], context: ExecutionContext) => Promise<unknown[]> {
    const shared = this.pipes.create(instance, step, moduleKey);
    const metatypes = (Reflect.getMetadata('design:paramtypes', instance, method) ?? []) as Type[];
    const own = new Map(
      parametersOf(instance.constructor, method).map(({ pipes, ...parameter }) => [
        parameter.index,
        { ...parameter, pipes: this.pipes.createConcreteContext<typeof pipes, PipeTransform[]>(pipes) },
      ]),
    );
    if (shared.length === 0 && own.size === 0) return (args) => Promise.resolve(args);
    return async (args, context) => {
      const transform = async (index: number): Promise<unknown> => {
        const { factory, data, pipes = [] } = own.get(index) ?? {};
        let value = factory ? await factory(data, context) : args[index];
        // To a ValidationPipe, a parameter that is 'custom' is none of its business.
        const metadata = { type: factory ? 'custom' : 'body', metatype: metatypes[index], data: undefined } as const;
        for (const pipe of [...shared, ...pipes]) value = (await pipe.transform(value, metadata)) as unknown;
        return value;
      };
      const length = Math.max(args.length, metatypes.length);
      return Promise.all(Array.from({ length }, (_, index) => transform(index)));
    };
  }

  private problemsOf({ provider, target, declaration: { method, step } }: EnhancedStep): string[] {
    const where = `${target.name}.${method}`;
    const enhancers = Object.entries(ENHANCERS).flatMap(([kind, key]) =>
      [target, step].flatMap((place) => classesIn(place, key).map((enhancer) => ({ kind, enhancer }))),
    );
    const pipes = parametersOf(target, method).flatMap((parameter) => parameter.pipes);
    const all = [...enhancers, ...pipes.filter(isClass).map((enhancer) => ({ kind: 'pipe', enhancer }))];
    const problems = all.flatMap(({ kind, enhancer }) => {
      const problem = this.problemOf(provider, enhancer);
      return problem === undefined ? [] : [`${where}: the ${kind} ${enhancer.name} ${problem}`];
    });
    if (problems.length === 0 && (provider.isTransient || !provider.isDependencyTreeStatic()))
      return [`${where}: a step with guards, pipes, interceptors or filters needs a provider of the default scope`];
    return problems;
  }

  private problemOf(provider: Provider, enhancer: Type): string | undefined {
    const injectable = this.modules.get(provider.host!.token)?.injectables.get(enhancer);
    if (!injectable)
      return 'is not made by Nest, because a factory or a value provides the class: provide the class itself, or give it an instance';
    if (injectable.isTransient || !injectable.isDependencyTreeStatic())
      return '(or what it injects) must be of the default scope: a step belongs to no request';
    return undefined;
  }
}

function enhancedStepsOf(provider: Provider): EnhancedStep[] {
  const target = (provider.instance as object | null | undefined)?.constructor as ProviderClass | undefined;
  if (!target || provider.isAlias) return [];
  return stepsOf(target)
    .filter(({ method, step }) => isEnhanced(target, step) || parametersOf(target, method).length > 0)
    .map((declaration) => ({ provider, target, declaration }));
}

function isEnhanced(target: object, step: StepBody): boolean {
  return Object.values(ENHANCERS).some((key) => Reflect.hasMetadata(key, target) || Reflect.hasMetadata(key, step));
}

/** On `run` they would never apply. */
function runProblems({ instance }: Provider): string[] {
  const target = (instance as object | null | undefined)?.constructor as ProviderClass | undefined;
  const run = (target?.prototype as { run?: unknown } | undefined)?.run;
  if (!target || typeof run !== 'function' || !workflowOptionsOf(target)) return [];
  return Object.entries(ENHANCERS)
    .filter(([, key]) => Reflect.hasMetadata(key, run))
    .map(
      ([kind]) =>
        `${target.name}.run: a ${kind} applies to steps, not to run; put it on a step, or on the class for all its steps`,
    );
}

function classesIn(place: object, key: string): Type[] {
  return ((Reflect.getMetadata(key, place) ?? []) as unknown[]).filter(isClass);
}

/** The decorated parameters of a method: by `createParamDecorator`, which takes pipes as well. */
function parametersOf(target: object, method: string): ParameterMetadata[] {
  return Object.values(
    (Reflect.getMetadata(ROUTE_ARGS_METADATA, target, method) ?? {}) as Record<string, ParameterMetadata>,
  );
}

function isClass(value: unknown): value is Type {
  return typeof value === 'function';
}

function contextOf(args: unknown[], instance: object, step: StepBody): ExecutionContext {
  const context = new ExecutionContextHost(args, instance.constructor as Type, step);
  context.setType(CONTEXT_TYPE);
  return context;
}

async function valueOf(result: unknown): Promise<unknown> {
  const value = await result;
  return isObservable(value) ? lastValueFrom(value, { defaultValue: undefined }) : value;
}
