// Training steps that are replayed beside steps that are not (docs/decisions/0010-recorded-steps.md), in turns in one process.
// usage: node bench/replay.mjs [--config experiments/bench/small.yaml] [--set KEY=VALUE ...] [--rounds 20] [--steps 3]
//                              [--record] appends the row to bench/history.csv
import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { medianInterval } from '../dist/bench/median.js';
import { readyBatch } from '../dist/bench/step.js';
import { loadConfig } from '../dist/config/index.js';
import { Experiment } from '../dist/train/experiment.js';

const { values } = parseArgs({
  options: {
    config: { type: 'string', default: 'experiments/bench/small.yaml' },
    set: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string', default: '20' },
    steps: { type: 'string', default: '3' },
    record: { type: 'boolean', default: false },
  },
});
const config = loadConfig(values.config, values.set);
const batch = readyBatch(config, config.data.identities);
let step = 0;

/** One of the two; run() gives milliseconds of a step. */
function runner(replays) {
  const experiment = new Experiment(config, config.data.identities);
  experiment.rounds.replays = replays;
  const { device } = experiment;
  return {
    device,
    run(steps) {
      const start = performance.now();
      for (let i = 0; i < steps; i++) experiment.update([batch], step++, 1e6);
      device.synchronize();
      return (performance.now() - start) / steps;
    },
  };
}
const both = [runner(false), runner(true)];
for (const { run } of both) run(4);

const times = [[], []];
for (let round = 0; round < Number(values.rounds); round++)
  for (const i of round % 2 ? [1, 0] : [0, 1]) times[i].push(both[i].run(Number(values.steps)));
const [plain, replayed] = times.map((list) => medianInterval(list));
const ratio = medianInterval(times[0].map((ms, i) => ms / times[1][i]));
const [{ device }] = both;
const { description } = device.statistics();
const name = path.basename(values.config, '.yaml');
const note =
  `plain ${plain.median.toFixed(1)} ms; replayed is ${ratio.median.toFixed(2)} times as fast ` +
  `(${ratio.low.toFixed(2)} to ${ratio.high.toFixed(2)}; in turns)`;
console.log(
  `${description}\n${name} ${config.precision}: replayed ${replayed.median.toFixed(1)} ms, ${note}`,
);

if (values.record) {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const [date] = new Date().toISOString().split('T');
  const shape = `${config.precision} B=${config.train.batch_size}`;
  const rate = `${((1000 * config.train.batch_size) / replayed.median).toPrecision(3)} images/s`;
  const row = [date, commit, description.replaceAll(',', ';'), `replayed step; ${name}`, shape];
  const file = path.join(import.meta.dirname, 'history.csv');
  appendFileSync(file, `${[...row, replayed.median.toFixed(2), rate, note].join(',')}\n`);
}
