// turl eval: measures a checkpoint again, on its own test set or another.
import { Command } from 'commander';
import { addSet, overridesOf, repeatable, type OverrideOptions } from './overrides.js';

interface Options extends OverrideOptions {
  degrade?: string[];
  json?: true;
  csv?: true;
}

export function evalCommand(): Command {
  const command = new Command('eval')
    .description('Evaluate the latest checkpoint of a run, or one checkpoint.')
    .argument('<run|checkpoint>', 'a run directory, or a file in its checkpoints folder')
    .option('--pairs <file>', 'test on the pairs of this file (LFW style) instead of the run’s own')
    .option('--images <dir>', 'the image folder that the pairs file names')
    .option('--device <name>', 'cpu, cuda or emulated')
    .option('--workers <n>', 'threads that decode or generate images', Number);
  repeatable(
    command,
    '--degrade <versions>',
    'test on degraded images too: blur=7, occlusion=0.2, yaw=50, or several joined by +',
  );
  return addSet(command)
    .option('--json', 'print JSON instead of a table')
    .option('--csv', 'print CSV instead of a table')
    .action(async (path: string, options: Options) => {
      const { evaluateRun, parseDegradation } = await import('../evaluate/run.js');
      const { evaluationCsv, evaluationJson, evaluationTable } = await import('../evaluate/table.js');
      const { degrade } = options;
      const evaluation = await evaluateRun(path, [
        ...overridesOf(options),
        ...(degrade
          ? [
              {
                source: `--degrade ${degrade.join(' ')}`,
                path: 'evaluate.degrade',
                value: degrade.map(parseDegradation),
              },
            ]
          : []),
      ]);
      if (options.json) process.stdout.write(evaluationJson(evaluation));
      else if (options.csv) process.stdout.write(await evaluationCsv(evaluation));
      else console.log(evaluationTable(evaluation));
    });
}
