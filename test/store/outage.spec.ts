import { jest } from '@jest/globals';
import { Outage } from '../../lib/store/outage.js';

describe('the log of an outage', () => {
  const REFUSED = new Error('connection refused');
  let lines: string[];
  let outage: Outage;

  beforeEach(() => {
    jest.useFakeTimers();
    lines = [];
    outage = new Outage('db:5432/app');
    outage.tellTo({ warn: (line) => lines.push(line), log: (line) => lines.push(line) });
  });

  afterEach(() => jest.useRealTimers());

  const failNow = (work: object) => outage.failed(work, performance.now(), REFUSED);
  const [work, other] = [{}, {}];

  it('tells after a second that the database is away, though nobody tries then, and when it is back', () => {
    failNow(work);
    jest.advanceTimersByTime(600);
    failNow(work);
    jest.advanceTimersByTime(399);
    expect(lines).toEqual([]);
    jest.advanceTimersByTime(1);
    expect(lines).toEqual([expect.stringContaining('cannot be used: connection refused.')]);

    jest.advanceTimersByTime(1_500);
    outage.succeeded(work);
    expect(lines.slice(1)).toEqual(['The database at db:5432/app can be used again, after 2.5 s.']);
  });

  it('tells it once, however many try', () => {
    for (let tries = 0; tries < 30; tries++) {
      failNow(work);
      failNow(other);
      jest.advanceTimersByTime(100);
    }
    expect(lines).toHaveLength(1);
  });

  it('tells it at once of a statement that has waited for an answer for long', () => {
    const sentAt = performance.now();
    jest.advanceTimersByTime(15_000);
    outage.failed(work, sentAt, REFUSED);
    expect(lines).toHaveLength(1);
  });

  const quiet: [string, () => void][] = [
    ['it was over within the second', () => outage.succeeded(work)],
    ['nobody tries any more', () => outage.gaveUp(work)],
    ['somebody else had an answer since', () => outage.succeeded(other)],
  ];

  it.each(quiet)('tells nothing when %s', (_, happens) => {
    failNow(work);
    jest.advanceTimersByTime(500);
    happens();
    jest.advanceTimersByTime(5_000);
    expect(lines).toEqual([]);
  });

  it('tells of a database that only answers reads by the next failure', () => {
    failNow(work);
    jest.advanceTimersByTime(500);
    outage.succeeded(other);
    jest.advanceTimersByTime(700);
    expect(lines).toEqual([]);
    failNow(work);
    expect(lines).toHaveLength(1);
  });

  it('counts a second outage from its own beginning', () => {
    failNow(work);
    jest.advanceTimersByTime(500);
    outage.succeeded(work);
    jest.advanceTimersByTime(300);
    failNow(work);
    jest.advanceTimersByTime(999);
    expect(lines).toEqual([]);
    jest.advanceTimersByTime(1);
    expect(lines).toHaveLength(1);
  });
});
