// turl bench: how fast the kernels are, and how far from the machine's limits.
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { UserError } from '../tensor/errors.js';
import { bar } from './bar.js';
import { compareCommand } from './bench-compare.js';
import { stepCommand } from './bench-step.js';

interface Options {
  device: string;
  quick?: true;
  json?: true;
  csv?: true;
  markdown?: true;
  out?: string;
}

export function benchCommand(): Command {
  return new Command('bench')
    .description(
      'Time every kernel at the shapes of real networks, against ceilings measured in the same run.',
    )
    .argument('[filter]', 'only kernels and shapes whose "NAME SHAPE" contains this')
    .option('--device <name>', 'cpu, cuda or emulated', 'cpu')
    .option('--quick', 'fewer and smaller shapes, shorter runs')
    .option('--json', 'print JSON instead of a table')
    .addOption(new Option('--csv', 'print CSV instead of a table').conflicts('json'))
    .addOption(new Option('--markdown', 'print Markdown instead of a table').conflicts(['json', 'csv']))
    .option('--out <dir>', 'also write results.json, .csv, .md, the roofline (SVG, PNG) and a page there')
    .action(bench)
    .addCommand(compareCommand())
    .addCommand(stepCommand());
}

async function bench(filter: string | undefined, options: Options): Promise<void> {
  const { device: open, deviceNames } = await import('../tensor/index.js');
  const { sizes: known } = await import('../bench/case.js');
  const { casesOf } = await import('../bench/cases/index.js');
  const { runBench } = await import('../bench/results.js');
  const { ceilingsText, csvTable, factsText, markdownOf, resultRows, textTable } =
    await import('../bench/table.js');
  const name = deviceNames.find((one) => one === options.device);
  if (!name)
    throw new UserError(`--device: expected one of ${deviceNames.join(', ')}, got ${options.device}`);
  const sizes = known[options.quick ? 'quick' : 'full'];
  const chosen = casesOf(sizes).filter(({ kernel, shape }) => `${kernel} ${shape}`.includes(filter ?? ''));
  if (chosen.length === 0)
    throw new UserError(
      `bench: expected a filter that names a kernel or shape, none contains "${filter ?? ''}"`,
    );
  const { out } = options;
  if (out !== undefined) {
    const { checkWritable, makeFolder } = await import('../train/atomic.js');
    makeFolder(out);
    checkWritable(join(out, 'results.json'));
  }
  const seconds = options.quick ? 0.1 : 1;
  const progress = bar('timing');
  const tell = (done: number) => progress.show(done, chosen.length);
  const results = runBench(open(name), chosen, { sizes, seconds, tell });
  progress.stop();
  if (options.json) console.log(JSON.stringify(results, null, 2));
  else if (options.csv) process.stdout.write(await csvTable(resultRows(results, 'all')));
  else if (options.markdown) process.stdout.write(markdownOf(results));
  else {
    console.log(`${factsText(results)}\nceilings: ${ceilingsText(results)}`);
    console.log(textTable(resultRows(results)));
  }
  if (out === undefined) return;
  const { writeFiles } = await import('../bench/files.js');
  process.stderr.write(`${(await writeFiles(out, results)).join(', ')} are in ${out}\n`);
}
