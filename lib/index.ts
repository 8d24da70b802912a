export {
  type EmbeddedPostgresConnection,
  type EmbeddedPostgresOptions,
  embeddedPostgres,
  stopEmbeddedPostgres,
} from './embedded/embedded-postgres.js';
export { AesGcmPayloadCodec, type AesGcmPayloadCodecOptions, type PayloadKey } from './engine/aes-gcm-payload-codec.js';
export type { BulkAction, BulkFilter, BulkOptions, BulkRequest, BulkResult } from './engine/bulk.js';
export type { CallerContext } from './engine/caller-context.js';
export type { SettledChild } from './engine/child-commands.js';
export {
  type CallOptions,
  type ChildHandle,
  type ChildOptions,
  ChildOrchestrator,
  type ChildStartOptions,
  type MapOptions,
  type SettledMapOptions,
  type TimeoutValue,
  type WaitOptions,
} from './engine/child-orchestrator.js';
export type { CronOptions } from './engine/cron.js';
export {
  Flow,
  type FlowClass,
  type FlowStepOptions,
  type InlineStepOptions,
  type InputOf,
  type OutputOf,
  type StepOptions,
  type WorkflowClass,
  type WorkflowHandler,
  type WorkflowOptions,
  type WorkflowReference,
} from './engine/definition.js';
export type { Duration } from './engine/duration.js';
export type { QueueLimits, QueueState } from './engine/queue-limits.js';
export type { Queues } from './engine/queues.js';
export {
  CancelledError,
  ChildCancelledError,
  ChildFailedError,
  ChildRefConflictError,
  ChildTimeoutError,
  DatabaseUnavailableError,
  DefinitionError,
  DepthLimitError,
  EmbeddedDatabaseError,
  FlowError,
  InputNotJudgedError,
  InputNotPendingError,
  InputTimeoutError,
  InsideRunError,
  InsideStepError,
  NonDeterminismError,
  NonRetryableError,
  NotInRunError,
  NotInTransactionError,
  OrchestrationError,
  PayloadError,
  ResultTimeoutError,
  RunCancelledError,
  RunConflictError,
  RunFailedError,
  RunFinishedError,
  RunNotFinishedError,
  RunNotFoundError,
  RunPoisonedError,
  RunTimeoutError,
  ScheduleNotFoundError,
  SchemaBehindError,
  SignalTimeoutError,
  StartLimitError,
  StepFailedError,
  StepInterruptedError,
  StepTimeoutError,
  UnreadablePayloadError,
  ValidationError,
  WorkflowNotRegisteredError,
} from './engine/errors.js';
export type { RunEvent } from './engine/events.js';
export type {
  ExplainedEntry,
  ExplainedGroup,
  ExplainedRun,
  ExplainedStep,
  ExplainedWorkflow,
  Explanation,
} from './engine/explain.js';
export type {
  ApprovalOptions,
  ChoiceOptions,
  FormOptions,
  InputOptions,
  InputType,
  TextOptions,
} from './engine/input-options.js';
export type { InputFilter, PendingInput } from './engine/input-store.js';
export type { Inputs, ProvideOptions } from './engine/inputs.js';
export {
  type CancelCount,
  type CancelOptions,
  type ChildFilter,
  type ForkOptions,
  Orchestrator,
  type ResultOptions,
  type RunHandle,
  type SignalWithStartOptions,
  type TransactionManager,
} from './engine/orchestrator.js';
export type { PayloadCodec } from './engine/payload-codec.js';
export type { RetentionOptions } from './engine/retention.js';
export type { ErrorKind, RetryOptions } from './engine/retry-policy.js';
export { RunContext, type RunLogger, type Winner } from './engine/run-context.js';
export type {
  Attributes,
  CompensationStatus,
  HistoryEntry,
  LogLine,
  Page,
  RunDetails,
  RunStatus,
  RunSummary,
  RunTree,
  StepHeartbeat,
  TerminalStatus,
  WaitingFor,
} from './engine/run.js';
export {
  defineSignal,
  type PayloadAndOptions,
  type RunRef,
  type SendOptions,
  type SendSignal,
  type Signal,
  type SignalOptions,
} from './engine/signal.js';
export type { SignalWaitOptions } from './engine/signal-wait.js';
export type { RunOptions, StartOptions } from './engine/start-options.js';
export type { Missed, Overlap } from './engine/schedule.js';
export type { DeclaredSchedule, ScheduleOptions, ScheduleRules, ScheduleTiming } from './engine/schedule-options.js';
export type { Schedule, ScheduleFilter, ScheduleSummary } from './engine/schedule-store.js';
export type { Schedules } from './engine/schedules.js';
export type { ActiveRuns, Stats, WorkerInfo, Workers } from './engine/statistics.js';
export type { StepContext } from './engine/step-execution.js';
export type { ListFilter } from './engine/run-queries.js';
export { causedBy, rootCause, type StoredError } from './engine/stored-error.js';
export type { Branches, SettledBranch } from './engine/structure.js';
export { type GoTo, goTo } from './flow/go-to.js';
export { InjectOrchestrator, Step, Workflow } from './nest/decorators.js';
export { OnRunEvent, type OnRunEventOptions, type RunEventName } from './nest/on-run-event.js';
export type { OrchestrationModuleOptions, WorkerOptions } from './nest/module-options.js';
export { OrchestrationModule } from './nest/orchestration.module.js';
export type { StepManager } from './store/app-transactions.js';
