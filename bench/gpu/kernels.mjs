// What Nsight Compute says of the kernels of one training step, as tables: by kernel, and the convolutions of IResNet-50 by layer.
// usage: node bench/gpu/kernels.mjs NCU.csv OUT   writes OUT-kernels.csv and OUT-convolutions.csv. bench/gpu.sh counters makes the first.
import { readFileSync, writeFileSync } from 'node:fs';
import { parseString } from 'fast-csv';

const [file, out] = process.argv.slice(2);
if (!file || !out) throw new Error('usage: node bench/gpu/kernels.mjs NCU.csv OUT');
const text = readFileSync(file, 'utf8').replace(/^==.*\n/gm, '');
const table = [];
for await (const row of parseString(text, { headers: true })) table.push(row);
const number = (value) => Number(value.replaceAll(',', ''));
const launches = table
  .slice(1) // the first row has the units
  .map((row) => ({
    name: row['Kernel Name']
      .replaceAll(/void |turl::|(?:\(anonymous namespace\)|<?unnamed>?)::/g, '')
      .replace(/\(.*/, ''),
    microseconds: number(row['gpu__time_duration.sum']) / 1e3,
    megabytes: (number(row['dram__bytes_read.sum']) + number(row['dram__bytes_write.sum'])) / 1e6,
  }));
// A step begins with the augmentation.
const begins = launches.flatMap(({ name }, i) => (name.startsWith('augment_kernel') ? [i] : []));
if (begins.length < 2) throw new Error(`${file}: expected a whole step, found ${begins.length} beginnings`);
const step = launches.slice(...begins.slice(-2));

const grouped = (list, key) => {
  const groups = new Map();
  for (const one of list) groups.set(key(one), [...(groups.get(key(one)) ?? []), one]);
  return groups;
};
const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);
const write = (name, head, rows) => {
  writeFileSync(`${out}-${name}.csv`, [head, ...rows].map((row) => `${row.join(',')}\n`).join(''));
  console.log(`${out}-${name}.csv: ${rows.length} rows`);
};
const times = (list) => {
  const all = sum(list, (one) => one.microseconds);
  return {
    count: list.length,
    each: all / list.length,
    all: all / 1e3,
    megabytes: sum(list, (one) => one.megabytes) / list.length,
  };
};

write(
  'kernels',
  ['kernel', 'launches', 'milliseconds', 'microseconds', 'memory_megabytes', 'memory_gb_per_s'],
  [...grouped(step, ({ name }) => name)]
    .map(([name, list]) => ({ name, ...times(list) }))
    .sort((a, b) => b.all - a.all)
    .map(({ name, count, each, all, megabytes }) => [
      ...[
        `"${name}"`,
        count,
        all.toFixed(3),
        each.toFixed(1),
        megabytes.toFixed(1),
        ((1e3 * megabytes) / each).toFixed(0),
      ],
    ]),
);

// The convolutions in the order of forward: [taps, channels in, out, side, stride].
const layers = [[3, 3, 64, 112, 1]];
for (let [stage, side, channels] = [0, 112, 64]; stage < 4; stage++)
  for (let block = 0; block < [3, 4, 14, 3][stage]; block++) {
    const [outs, stride] = [64 << stage, block === 0 ? 2 : 1];
    layers.push([3, channels, outs, side, 1], [3, outs, outs, side, stride]);
    if (block === 0) layers.push([1, channels, outs, side, stride]);
    [side, channels] = [side / stride, outs];
  }
const directionOf = (name) =>
  name.includes('backward_weight')
    ? 'weight'
    : /backward_data|windows_matrix_kernel<.*>, 1>$/.test(name)
      ? 'data'
      : 'forward';
const batch = 256;
const rows = [];
for (const [direction, list] of grouped(
  step.filter(({ name }) => name.startsWith('conv_')),
  ({ name }) => directionOf(name),
)) {
  const order = direction === 'forward' ? layers : layers.toReversed().slice(0, list.length);
  if (order.length !== list.length)
    throw new Error(`${direction}: expected ${order.length} convolutions, found ${list.length}`);
  const named = list.map((one, i) => ({ ...one, layer: order[i] }));
  for (const same of grouped(named, ({ name, layer }) => `${layer} ${name}`).values()) {
    const { layer, name } = same[0];
    const [taps, channels, outs, side, stride] = layer;
    const { count, each, all, megabytes } = times(same);
    const teraflops = (2 * batch * (side / stride) ** 2 * channels * outs * taps ** 2) / each / 1e6;
    rows.push([
      ...[
        direction,
        `${taps}x${taps}`,
        channels,
        outs,
        `${side}x${side}`,
        stride,
        count,
        each.toFixed(1),
        all.toFixed(3),
      ],
      ...[teraflops.toFixed(0), megabytes.toFixed(1), `"${name}"`],
    ]);
  }
}
const head =
  'direction,taps,channels,out_channels,image,stride,launches,microseconds,milliseconds,tflops,memory_megabytes,kernel';
write('convolutions', head.split(','), rows);
