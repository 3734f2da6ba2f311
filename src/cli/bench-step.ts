// turl bench step: a whole training step of an experiment, beside PyTorch and other checkouts.
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { addSet, overridesOf, repeatable, whole, type OverrideOptions } from './overrides.js';

interface Options extends OverrideOptions {
  threads?: number;
  rounds: number;
  steps: number;
  peers?: true | 'prelu' | 'leaky' | 'both';
  against?: string[];
  asPeer?: true;
  loader?: true;
  sizes?: true;
  trace?: string;
  json?: true;
  record?: true;
}

export function stepCommand(): Command {
  const command = new Command('step')
    .description('Time the training step of an experiment: images a second, by phase, by operation, memory.')
    .argument('<config>', 'the experiment, a YAML file')
    .option('--device <name>', 'cpu, cuda or emulated');
  const against = 'beside a checkout that is built, or this one with VARIABLE=VALUE in its environment';
  return repeatable(addSet(command), '--against <other>', against)
    .addOption(new Option('--as-peer', 'run steps when stdin says so').hideHelp())
    .option('--threads <n>', 'threads of the CPU', whole('--threads', 1, 1024))
    .option(
      '--rounds <n>',
      'turns of turl and each peer; six give an interval',
      whole('--rounds', 1, 10_000),
      6,
    )
    .option('--steps <n>', 'steps in each turn', whole('--steps', 1, 10_000), 3)
    .addOption(
      new Option('--peers [which]', 'beside PyTorch, with PReLU, with LeakyReLU in its place, or both')
        .choices(['prelu', 'leaky', 'both'])
        .preset('prelu'),
    )
    .option('--loader', 'profile with batches of the experiment’s own images, so that waiting for them shows')
    .option('--sizes', 'tell operations apart by their sizes, in the order of native/kernels.h')
    .option('--trace <file.json>', 'write the profiled steps as a trace for Perfetto or Chrome')
    .option('--json', 'print JSON instead of text')
    .option('--record', 'append a row to bench/history.csv')
    .action(step);
}

async function step(file: string, options: Options): Promise<void> {
  const { Watch, traceJson } = await import('../bench/watch.js');
  const watch = new Watch();
  const { loadConfig } = await import('../config/index.js');
  const { measureStep, peerKinds, serveSteps } = await import('../bench/step.js');
  const { turlPeer } = await import('../bench/peer.js');
  const { recordStep, stepText } = await import('../bench/step-text.js');
  const { checkOutput, writeAtomic } = await import('../train/atomic.js');
  const { threads, rounds, steps, peers, loader = false, sizes = false, trace } = options;
  const config = loadConfig(file, overridesOf(options));
  if (options.asPeer) return serveSteps(config, threads);
  const { device, set = [] } = options;
  const same = [
    resolve(file),
    ...set.flatMap((one) => ['--set', one]),
    ...(device === undefined ? [] : ['--device', device]),
    ...(threads === undefined ? [] : ['--threads', String(threads)]),
  ];
  const against = (options.against ?? []).map((other) => turlPeer(other, same));
  if (trace !== undefined) checkOutput('--trace', trace, ['.json']);
  const report = await measureStep(config, watch, {
    ...{ rounds, steps, threads, loader, sizes, against },
    peers: peerKinds.filter((kind) => peers === kind || peers === 'both'),
    tell: (what) => process.stderr.write(`${what}\n`),
  });
  console.log(options.json ? JSON.stringify(report, null, 2) : stepText(report));
  if (trace !== undefined) writeAtomic(trace, traceJson(watch));
  if (options.record) recordStep(report);
}
