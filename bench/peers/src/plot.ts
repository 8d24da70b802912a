import { init } from 'echarts';
import { Numbers } from '../../src/report/numbers.js';
import type { Results } from '../../src/results.js';

const BARS = [
  { name: 'one-step runs/s (A)', metric: 'A.perSecond' },
  { name: 'steps/s of ten-step runs (B)', metric: 'B.stepsPerSecond' },
  { name: 'parent + child /s (C)', metric: 'C.perSecond' },
];

/** The throughput of all systems as an SVG: logarithmic, the fastest on top. */
export function draw(results: Results): string {
  const numbers = new Numbers(results);
  const systems = numbers
    .systems('ours', 'floor', 'durable', 'queue')
    .filter((system) => numbers.of(system, 'A.perSecond') !== undefined)
    .sort((one, other) => numbers.of(one, 'A.perSecond')! - numbers.of(other, 'A.perSecond')!);
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 860, height: 90 + 66 * systems.length });
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    legend: { itemGap: 60, top: 10 },
    grid: { left: 170, right: 80, top: 50, bottom: 30 },
    xAxis: { type: 'log', min: 10 },
    yAxis: { type: 'category', data: systems },
    series: BARS.map(({ name, metric }) => ({
      name,
      type: 'bar',
      data: systems.map((system) => Math.round(numbers.of(system, metric) ?? 0) || null),
      label: {
        show: true,
        position: 'right',
        formatter: ({ value }: { value?: unknown }) => Number(value).toLocaleString('en'),
      },
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
