// turl eval: measures a checkpoint again, on its own test set or another.
import { Command, Option } from 'commander';
import { scoreNames, type ScoreName } from '../evaluate/scores.js';
import { fusionNames, type FusionName } from '../evaluate/templates.js';
import { UserError } from '../tensor/errors.js';
import { bar } from './bar.js';
import {
  whole,
  addSet,
  named,
  overridesOf,
  repeatable,
  workerCount,
  type OverrideOptions,
} from './overrides.js';

interface Options extends OverrideOptions {
  degrade?: string[];
  protocol?: string;
  setDir?: string;
  embeddings?: string;
  bootstrap?: number;
  score?: ScoreName;
  fusion?: FusionName;
  json?: true;
  csv?: true;
}

export function evalCommand(): Command {
  const command = new Command('eval')
    .description('Evaluate the latest checkpoint of a run, or one checkpoint.')
    .argument(
      '[run|checkpoint]',
      'a run directory, or a file in its checkpoints folder; may be left out with --embeddings',
    )
    .option('--pairs <file>', 'test on the pairs of this file (LFW style) instead of the run’s own')
    .option('--images <dir>', 'the image folder that the pairs file or the protocol names')
    .option('--protocol <name>', 'a protocol of the field: ijba, ijbb, ijbc, ijbs, tinyface, megaface, ytf')
    .option('--set-dir <dir>', 'the folder of the protocol’s set, with its metadata')
    .option('--embeddings <file>', 'take the embeddings of the protocol’s images from what turl embed wrote')
    .option(
      '--bootstrap <n>',
      'resamples behind the confidence intervals; 0: none',
      whole('--bootstrap', 0, 1_000_000),
    )
    .addOption(new Option('--score <name>', 'the score of a pair').choices(scoreNames))
    .addOption(new Option('--fusion <name>', 'how images become a template').choices(fusionNames))
    .option('--flip', 'take the mean with the mirrored image')
    .option('--device <name>', 'cpu, cuda or emulated')
    .option('--workers <n>', 'threads that decode or generate images', workerCount);
  repeatable(
    command,
    '--degrade <versions>',
    'test on degraded images too: blur=7, occlusion=0.2, yaw=50, or several joined by +',
  );
  return addSet(command)
    .option('--json', 'print JSON instead of a table')
    .addOption(new Option('--csv', 'print CSV instead of a table').conflicts('json'))
    .action((path: string | undefined, options: Options) =>
      options.protocol === undefined
        ? evalPairs(path, options)
        : evalProtocol(path, options.protocol, options),
    );
}

async function evalPairs(path: string | undefined, options: Options): Promise<void> {
  if (path === undefined) throw new UserError('eval: expected a run or checkpoint, got none');
  for (const [flag, value] of [
    ['--set-dir', options.setDir],
    ['--embeddings', options.embeddings],
    ['--fusion', options.fusion],
  ] as const)
    if (value !== undefined) throw new UserError(`${flag}: expected --protocol NAME with it, got none`);
  const { evaluateRun, parseDegradation } = await import('../evaluate/run.js');
  const { evaluationCsv, evaluationJson, evaluationTable, leftOutNote } =
    await import('../evaluate/table.js');
  const { degrade } = options;
  const evaluation = await evaluateRun(path, [
    ...overridesOf(options),
    ...named('--score', 'evaluate.score', options.score),
    ...named('--bootstrap', 'evaluate.bootstrap', options.bootstrap),
    ...named(`--degrade ${degrade?.join(' ')}`, 'evaluate.degrade', degrade?.map(parseDegradation)),
  ]);
  if (options.json) process.stdout.write(evaluationJson(evaluation));
  else if (options.csv) {
    process.stdout.write(await evaluationCsv(evaluation));
    for (const note of leftOutNote(evaluation)) console.warn(note);
  } else console.log(evaluationTable(evaluation));
}

async function evalProtocol(path: string | undefined, protocol: string, options: Options): Promise<void> {
  const { setDir: dir, embeddings, images, score, fusion, degrade, bootstrap, ...rest } = options;
  const { checkProtocol } = await import('../evaluate/protocols/index.js');
  checkProtocol(protocol);
  if (dir === undefined)
    throw new UserError(`--protocol ${protocol}: expected --set-dir DIR with it, got none`);
  if (options.pairs !== undefined) throw new UserError('--pairs: expected it or --protocol, got both');
  if (embeddings !== undefined)
    for (const [flag, value] of [
      ['--degrade', degrade],
      ['--flip', options.flip],
      ['--images', images],
      ['--set evaluate.flip', options.set?.find((one) => one.trim().startsWith('evaluate.flip'))],
    ] as const)
      if (value !== undefined)
        throw new UserError(`${flag}: expected images to embed, got --embeddings, which are made already`);
  const { parseDegradation } = await import('../evaluate/run.js');
  const { evaluateProtocol } = await import('../evaluate/protocols/run.js');
  const { protocolCsv, protocolJson, protocolTable } = await import('../evaluate/protocols/table.js');
  const progress = bar('embedding');
  const evaluation = await evaluateProtocol({
    onProgress: progress.show,
    protocol,
    dir,
    run: path,
    images,
    embeddings,
    score,
    fusion,
    resamples: bootstrap,
    degraded: degrade !== undefined,
    overrides: [
      ...overridesOf(rest),
      ...named(`--degrade ${degrade?.join(' ')}`, 'evaluate.degrade', degrade?.map(parseDegradation)),
    ],
  }).finally(progress.stop);
  if (options.json) process.stdout.write(protocolJson(evaluation));
  else if (options.csv) process.stdout.write(await protocolCsv(evaluation));
  else console.log(protocolTable(evaluation));
}
