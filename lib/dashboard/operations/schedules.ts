import type { ScheduleFilter } from '../../engine/schedule-store.js';
import { operation } from '../operation.js';
import { pageOf, paging, reference } from '../schemas.js';

export const SCHEDULE_OPERATIONS = [
  operation<ScheduleFilter>({
    id: 'listSchedules',
    method: 'get',
    path: 'schedules',
    summary: 'Schedules in the order of their ids, page by page',
    query: { ...paging },
    answer: pageOf(reference('Schedule')),
    call: ({ orchestrator, query }) => orchestrator.schedules.list(query),
  }),
  operation({
    id: 'getSchedule',
    method: 'get',
    path: 'schedules/:id',
    summary: 'A schedule with the input of its runs',
    answer: reference('Schedule'),
    errors: [404],
    call: ({ orchestrator, params }) => orchestrator.schedules.get(params['id']!),
  }),
  operation({
    id: 'pauseSchedule',
    method: 'post',
    path: 'schedules/:id/pause',
    summary: 'Lets the ticks of a schedule pass',
    errors: [404],
    call: ({ orchestrator, params }) => orchestrator.schedules.pause(params['id']!),
  }),
  operation({
    id: 'resumeSchedule',
    method: 'post',
    path: 'schedules/:id/resume',
    summary: 'Lets the ticks of a paused schedule start runs again',
    errors: [404],
    call: ({ orchestrator, params }) => orchestrator.schedules.resume(params['id']!),
  }),
  operation({
    id: 'triggerSchedule',
    method: 'post',
    path: 'schedules/:id/trigger',
    summary: 'Starts a run of a schedule now, also while it is paused',
    answer: reference('RunRef'),
    errors: [404],
    call: async ({ orchestrator, params }) => {
      const { id, started } = await orchestrator.schedules.trigger(params['id']!);
      return { id, started };
    },
  }),
  operation({
    id: 'deleteSchedule',
    method: 'delete',
    path: 'schedules/:id',
    summary: 'Deletes a schedule; its runs go on',
    call: ({ orchestrator, params }) => orchestrator.schedules.delete(params['id']!),
  }),
];
