import { PlanCache } from '../../lib/store/plan-cache.js';

describe('the plan of a prepared statement', () => {
  it('is made anew each time the statement has been executed four times as often', () => {
    const plans = new PlanCache();
    const statement = { name: 'commit', text: 'select $1' };

    const names = Array.from({ length: 300 }, () => plans.prepare(statement, [1]).name);

    const lastOfEach = new Map(names.map((name, index) => [name, index + 1]));
    expect([...lastOfEach.values()]).toEqual([3, 15, 63, 255, 300]);
  });

  it('is not made anew for ever: each one stays in the memory of the connection', () => {
    const plans = new PlanCache();
    const statement = { name: 'commit', text: 'select 1' };

    const names = Array.from({ length: 100_000 }, () => plans.prepare(statement, []).name);

    expect(new Set(names).size).toBe(7);
  });

  it('of one statement does not age by the executions of another', () => {
    const plans = new PlanCache();
    for (let index = 0; index < 100; index++) plans.prepare({ name: 'claim', text: 'select 1' }, []);

    expect(plans.prepare({ name: 'commit', text: 'select 2' }, [])).toEqual({
      name: 'commit_0',
      text: 'select 2',
      values: [],
    });
  });
});
