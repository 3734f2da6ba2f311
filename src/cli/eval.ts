// turl eval: measures a checkpoint again.
import { Command } from 'commander';

export function evalCommand(): Command {
  return new Command('eval')
    .description('Evaluate the latest checkpoint of a run, or one checkpoint.')
    .argument('<run|checkpoint>', 'a run directory, or a file in its checkpoints folder')
    .option('--json', 'print JSON instead of a table')
    .option('--csv', 'print CSV instead of a table')
    .action(async (path: string, options: { json?: true; csv?: true }) => {
      const { evaluateRun } = await import('../evaluate/run.js');
      const { evaluationCsv, evaluationJson, evaluationTable } = await import('../evaluate/table.js');
      const evaluation = await evaluateRun(path);
      if (options.json) process.stdout.write(evaluationJson(evaluation));
      else if (options.csv) process.stdout.write(await evaluationCsv(evaluation));
      else console.log(evaluationTable(evaluation));
    });
}
