import { RowSet } from './row-set.js';
import { WAKE_TARGET } from './wake.sql.js';

export const ASKED = new RowSet({
  scope: 'text',
  name: 'text',
  ordinal: 'int',
  type: 'text',
  prompt: 'text',
  choices: 'text',
  judged_by_run: 'bool',
  shielded: 'bool',
  asked_at: 'float8',
  expires_at: 'float8',
});

export const CLOSED = new RowSet({ scope: 'text', name: 'text', ordinal: 'int' });

/** The input that the first parameters name: run id, scope, name, ordinal. */
const THIS_INPUT = `i.run_id = $1::uuid
  and i.scope = $2::text
  and i.name = $3::text
  and i.ordinal = $4::int`;

/** An offer whose verdict is still to come, or to be read by the one who made it. */
const IS_OFFERED = `(i.state in ('offered', 'refused') and i.offered_until > @schema.engine_now())`;

/** A question that waits for its answer: a run that is being cancelled takes one in a shield only. */
export const IS_OPEN = `i.state <> 'answered'
  and (i.expires_at is null or i.expires_at > @schema.engine_now())
  and (r.cancel_requested_at is null or i.shielded)`;

const CAN_BE_ANSWERED = `${IS_OPEN}
  and not ${IS_OFFERED}`;

/**
 * What a run asks for. Asked again after a replay, the question is as the code words it now; an answer that has been given
 * meanwhile stays. Takes: run id, workflow, ASKED. The caller's transaction has the lock of the run.
 */
const askInputs = `
insert into @schema.input as i (
  run_id, workflow, scope, name, ordinal, type, prompt, choices, judged_by_run, shielded, state, asked_at, expires_at
)
select $1::uuid, $2::text, a.scope, a.name, a.ordinal, a.type, a.prompt, a.choices, a.judged_by_run, a.shielded, 'pending',
  to_timestamp(a.asked_at / 1000), to_timestamp(a.expires_at / 1000)
from ${ASKED.unnest('a', 3)}
on conflict (run_id, scope, name, ordinal) do update
set type = excluded.type,
  prompt = excluded.prompt,
  choices = excluded.choices,
  judged_by_run = excluded.judged_by_run,
  shielded = excluded.shielded,
  expires_at = excluded.expires_at
where i.state in ('pending', 'refused')`;

/** The waits have ended. Takes: run id, CLOSED. The caller's transaction has the lock of the run. */
const closeInputs = `
delete from @schema.input i
using ${CLOSED.unnest('c', 2)}
where i.run_id = $1::uuid
  and i.scope = c.scope
  and i.name = c.name
  and i.ordinal = c.ordinal`;

/** The run has ended. Takes: run id. The caller's transaction has the lock of the run. */
const closeAllInputs = `
delete from @schema.input
where run_id = $1::uuid`;

/** What a run waits for, those of a name first. Takes: run id, name, limit. Locks nothing. */
const findInputs = `
select r.status, r.cancel_requested_at is not null as is_cancelled,
  i.scope, i.name, i.ordinal, i.type, i.choices, i.judged_by_run, r.finished_at is null and ${CAN_BE_ANSWERED} as is_pending
from @schema.run r
left join @schema.input i on i.run_id = r.id
where r.id = $1::uuid
order by i.name = $2::text desc, i.asked_at, i.scope, i.ordinal
limit $3::int`;

/**
 * Answers a pending input, or offers it an answer, and wakes its run. The run is locked before the input, in the order of
 * its own writes, so an input that a write is just closing is found closed.
 * Takes: an input, the offer's id, the answer, for how many ms an offer stands (null: it is an answer already).
 * Returns: the run, or nothing when the input is not pending. The same offer sent again, after a lost reply, counts again.
 */
const answerInput = `
with asking as (
  select r.id, r.cancel_requested_at
  from @schema.run r
  where r.id = $1::uuid
    and r.finished_at is null
  for no key update
),
target as (
  update @schema.input i
  set state = case when $7::float8 is null then 'answered' else 'offered' end,
    offer_id = $5::uuid,
    answer = $6::text,
    answered_at = @schema.engine_now(),
    offered_until = @schema.engine_now() + make_interval(secs => $7::float8 / 1000),
    issues = null
  from asking r
  where ${THIS_INPUT}
    and i.run_id = r.id
    and i.judged_by_run = ($7::float8 is not null)
    and (i.offer_id = $5::uuid and i.state in ('offered', 'answered') or ${CAN_BE_ANSWERED})
  returning r.id
)
${WAKE_TARGET}`;

/**
 * What became of an offer; that it was refused is read once, and makes room for the next. Without the row its wait has
 * ended, with this offer if that is recorded: until then nobody else could make one.
 * Takes: an input, the offer's id. Locks the input when it was refused.
 */
const inputVerdict = `
with read as (
  update @schema.input i
  set state = 'pending',
    offer_id = null,
    offered_until = null,
    issues = null
  from @schema.input old
  where ${THIS_INPUT}
    and i.offer_id = $5::uuid
    and i.state = 'refused'
    and (old.run_id, old.scope, old.name, old.ordinal) = (i.run_id, i.scope, i.name, i.ordinal)
  returning old.issues
)
select
  (select issues from read) as issues,
  (select i.state from @schema.input i where ${THIS_INPUT} and i.offer_id = $5::uuid) as state,
  exists (
    select
    from @schema.history h
    where h.run_id = $1::uuid
      and h.kind = 'input'
      and h.scope = $2::text
      and h.name = $3::text
      and h.ordinal = $4::int
      and h.status = 'completed'
      and not exists (select from @schema.input i where ${THIS_INPUT})
  ) as is_recorded`;

/** Takes an offer back. Takes: an input, the offer's id. Locks the input. Returns: a row if the offer had not been judged. */
const withdrawOffer = `
update @schema.input i
set state = 'pending',
  offer_id = null,
  offered_until = null,
  answer = null,
  answered_at = null
where ${THIS_INPUT}
  and i.offer_id = $5::uuid
  and i.state = 'offered'
returning i.run_id`;

/** The answers and offers that a run has not taken, in the order in which they came. Takes: run id. Locks nothing. */
const givenAnswers = `
select i.scope, i.name, i.ordinal, i.offer_id, i.answer, i.state, i.judged_by_run,
  extract(epoch from i.answered_at)::float8 * 1000 as answered_at,
  extract(epoch from i.offered_until)::float8 * 1000 as offered_until
from @schema.input i
where i.run_id = $1::uuid
  and (i.state = 'answered' or i.state = 'offered' and i.offered_until > @schema.engine_now())
order by i.answered_at, i.offer_id`;

/** The run is still the judge's: a schema of another process, and maybe of another deploy, has no say. */
const IS_OURS = `exists (select from @schema.run r where r.id = $1::uuid and r.epoch = $6::int and r.status = 'running')`;

/**
 * The run takes an offer that still stands. Takes: an input, the offer's id, the epoch, what the schema has made of it.
 * Locks the input. Returns: a row if it was taken, also when it is sent again after a lost reply.
 */
const acceptOffer = `
update @schema.input i
set state = 'answered',
  answer = $7::text,
  offered_until = null
where ${THIS_INPUT}
  and i.offer_id = $5::uuid
  and (i.state = 'answered' or i.state = 'offered' and i.offered_until > @schema.engine_now())
  and ${IS_OURS}
returning i.run_id`;

/**
 * The run refuses an offer, or an answer to what it does not ask any more, of which nobody waits to hear. Takes: an input, the
 * offer's id, the epoch, the reasons. Locks the input.
 */
const refuseAnswer = `
update @schema.input i
set state = case when i.state = 'offered' then 'refused' else 'pending' end,
  answer = null,
  answered_at = null,
  issues = $7::text
where ${THIS_INPUT}
  and i.offer_id = $5::uuid
  and i.state in ('offered', 'answered')
  and ${IS_OURS}`;

/** Closes an input that has neither an answer nor an offer. Takes: an input. Waits for an answer that is being committed. */
const expireInput = `
delete from @schema.input i
where ${THIS_INPUT}
  and i.state <> 'answered'
  and not (i.state = 'offered' and i.offered_until > @schema.engine_now())`;

export const inputStatements = {
  askInputs,
  closeInputs,
  closeAllInputs,
  findInputs,
  answerInput,
  inputVerdict,
  withdrawOffer,
  givenAnswers,
  acceptOffer,
  refuseAnswer,
  expireInput,
};
