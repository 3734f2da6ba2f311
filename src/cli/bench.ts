// turl bench: how fast the kernels are, beside a copy and a matrix product.
import { Command } from 'commander';
import Table from 'cli-table3';
import { UserError } from '../tensor/errors.js';

interface Options {
  device: string;
  quick?: true;
  json?: true;
}

export function benchCommand(): Command {
  return new Command('bench')
    .description('Time the kernels at the shapes of real networks, beside a copy and a matrix product.')
    .argument('[filter]', 'only kernels and shapes whose "NAME SHAPE" contains this')
    .option('--device <name>', 'cpu, cuda or emulated', 'cpu')
    .option('--quick', 'fewer shapes and shorter runs')
    .option('--json', 'print it as JSON')
    .action(async (filter: string | undefined, options: Options) => {
      const { device: open, deviceNames } = await import('../tensor/index.js');
      const { cases } = await import('../bench/cases.js');
      const { measure, measureYardsticks } = await import('../bench/run.js');
      const { machine, versions } = await import('../train/environment.js');
      const name = deviceNames.find((known) => known === options.device);
      if (!name)
        throw new UserError(`--device: expected one of ${deviceNames.join(', ')}, got ${options.device}`);
      const chosen = cases.filter(
        ({ kernel, shape, slow }) => `${kernel} ${shape}`.includes(filter ?? '') && !(options.quick && slow),
      );
      if (chosen.length === 0)
        throw new UserError(
          `bench: expected a filter that names a kernel or shape, none contains "${filter ?? ''}"`,
        );
      const device = open(name);
      const seconds = options.quick ? 0.2 : 1;
      process.stderr.write(
        `${chosen.length} cases of about ${seconds} s each; longer where six runs take longer
`,
      );
      const yardsticks = measureYardsticks(device, seconds);
      const results = chosen.map((entry) => measure(device, entry, yardsticks, seconds));
      const { description, threads } = device.statistics();
      if (options.json) {
        const facts = { ...versions(), machine: machine(), device: { name, description, threads } };
        console.log(JSON.stringify({ ...facts, yardsticks, results }, null, 2));
        return;
      }
      console.log(
        `${description}; copy ${(yardsticks.copy / 1e9).toFixed(1)} GB/s, product ${(yardsticks.product / 1e9).toFixed(1)} GFLOP/s`,
      );
      const table = new Table({
        head: ['kernel', 'shape', 'ms', '95 %', 'cold ms', 'runs', 'GFLOP/s', 'GB/s', 'of copy or product'],
        style: { head: [], border: [] },
      });
      for (const r of results)
        table.push(
          'skipped' in r
            ? [r.kernel, r.shape, { content: `skipped: ${r.skipped}`, colSpan: 7 }]
            : [
                ...[r.kernel, r.shape, r.warm.median.toFixed(3)],
                ...[`${r.warm.low.toFixed(3)} to ${r.warm.high.toFixed(3)}`, r.cold.toFixed(3), r.runs],
                ...[r.gflops.toFixed(1), r.gbytes.toFixed(1), `${(100 * r.ratio).toFixed(0)} %`],
              ],
        );
      console.log(table.toString());
    });
}
