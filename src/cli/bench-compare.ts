// turl bench compare: which of two measurements or checkouts is faster.
import { Command } from 'commander';
import { UserError } from '../tensor/errors.js';
import { whole } from './overrides.js';

interface Options {
  device: string;
  filter?: string;
  quick?: true;
  rounds: number;
  json?: true;
}

export function compareCommand(): Command {
  return new Command('compare')
    .description('Say of each case whether B is faster, slower or the same, with the interval of the ratio.')
    .argument('<a>', 'a results.json of turl bench, or a checkout that is built')
    .argument('<b>', 'another of the same kind; checkouts run in turns')
    .option('--device <name>', 'checkouts: cpu, cuda or emulated', 'cpu')
    .option('--filter <text>', 'checkouts: only cases whose name contains this')
    .option('--quick', 'checkouts: fewer and smaller shapes, shorter runs')
    .option('--rounds <n>', 'checkouts: runs of each; six give an interval', whole('--rounds', 6), 6)
    .option('--json', 'print JSON instead of a table')
    .action(async (a: string, b: string, options: Options, command: Command) => {
      const { device, filter, quick, rounds, json } = options;
      const { compare, kindOf, comparisonRows, comparisonSummary } = await import('../bench/compare.js');
      const { textTable } = await import('../bench/table.js');
      const given = ['device', 'filter', 'quick', 'rounds'].find(
        (one) => command.getOptionValueSource(one) === 'cli',
      );
      if (given !== undefined && kindOf(a) === 'file')
        throw new UserError(`--${given}: expected two checkouts to run, got the file ${a}`);
      const args = [
        ...(filter === undefined ? [] : [filter]),
        '--device',
        device,
        ...(quick ? ['--quick'] : []),
      ];
      const tell = (round: number) => process.stderr.write(`round ${round + 1} of ${rounds}\n`);
      const comparison = await compare(a, b, { rounds, args, tell });
      if (json) {
        console.log(JSON.stringify(comparison, null, 2));
        return;
      }
      console.log(textTable(comparisonRows(comparison)));
      console.log(comparisonSummary(comparison));
    });
}
