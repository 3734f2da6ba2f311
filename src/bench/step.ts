// A whole training step of an experiment: its time beside that of PyTorch and of other checkouts, by phase and by operation, and what holds
// the memory.
import { createInterface } from 'node:readline';
import type { Config } from '../config/index.js';
import { augmentColumns, encodeAugmentation } from '../data/augment.js';
import { openDataset } from '../data/dataset.js';
import { variationNames } from '../data/variations.js';
import { UserError } from '../tensor/errors.js';
import { Draws } from '../tensor/philox.js';
import { Experiment } from '../train/experiment.js';
import type { TrainingBatch } from '../train/learner.js';
import { trainingLoader } from '../train/network-input.js';
import { medianInterval, quantile, type Median } from './median.js';
import { openPeer, peerArguments, torchPeer, type Absent, type Peer, type PeerProgram } from './peer.js';
import { circumstances, clocksOf } from './results.js';
import { phases, totals, type Watch } from './watch.js';

export interface StepOptions {
  /** Rounds of turns, and steps of each in a round. */
  readonly rounds: number;
  readonly steps: number;
  readonly threads?: number | undefined;
  /** PyTorch with these activations. */
  readonly peers: readonly PeerKind[];
  /** Other turls (`turlPeer`). */
  readonly against: readonly PeerProgram[];
  /** Profiled steps take their batches from the experiment's own images. */
  readonly loader: boolean;
  /** Operations are told apart by their sizes. */
  readonly sizes: boolean;
  readonly tell: (what: string) => void;
}

export const peerKinds = ['prelu', 'leaky'] as const;
export type PeerKind = (typeof peerKinds)[number];
const peerNames = { prelu: 'PyTorch', leaky: 'PyTorch with LeakyReLU' } as const;

export interface Rate {
  readonly name: string;
  /** Images a second; the interval is that of the median step. */
  readonly rate: Median;
}
export type PeerRate =
  (Rate & { /** Our rate divided by its, by rounds. */ readonly ratio: Median }) | Absent;

const profiledSteps = 3;

/** A batch that lies ready, a third of its images blurred, a third occluded. */
export function readyBatch(config: Config, identities: number): TrainingBatch {
  const { data, train, model, augment } = config;
  const [count, side] = [train.batch_size, data.image_size];
  const draws = new Draws(1, 0, 0, 0);
  const augmentation = new Int32Array(count * augmentColumns);
  const variations = new Float32Array(count * variationNames.length);
  const { blocks } = augment.occlusion;
  const [top, most] = [(side - model.input_size) >> 1, blocks * blocks];
  for (let i = 0; i < count; i++) {
    const [blurred, hidden] = [i % 3 === 0, i % 3 === 1];
    variations.set([Number(blurred), Number(hidden)], i * variationNames.length);
    const occluded = Array.from({ length: hidden ? Math.ceil(0.3 * most) : 0 }, () => draws.int(most));
    encodeAugmentation(augmentation, i, {
      top,
      left: top,
      flip: i % 2 === 1,
      blur: blurred ? 7 : 0,
      occluded,
    });
  }
  return {
    pixels: Uint8Array.from({ length: count * side * side * 3 }, () => draws.int(256)),
    labels: Int32Array.from({ length: count }, () => draws.int(identities)),
    augmentation,
    variations,
  };
}

const byInverse = (amount: number, { median, low, high }: Median): Median => ({
  median: amount / median,
  low: amount / high,
  high: amount / low,
});

function interval(values: readonly number[]): Median {
  return medianInterval(values) ?? { median: quantile(values, 0.5), low: NaN, high: NaN };
}

/** Where the batches of the profiled steps come from. */
async function openBatches(config: Config, loader: boolean, ready: TrainingBatch) {
  if (!loader) return { next: () => Promise.resolve(ready), close: () => Promise.resolve() };
  const { train } = await openDataset(config, { render: true });
  const opened = trainingLoader(config, train, 0);
  return { next: () => opened.next(), close: () => opened.close() };
}

/** The steps in turns: seconds of each, by round; first ours, then each peer's. */
async function inTurns(ours: (count: number) => number[], peers: readonly Peer[], options: StepOptions) {
  const [own, others] = [[] as number[][], peers.map(() => [] as number[][])];
  for (let round = 0; round < options.rounds; round++) {
    options.tell(`round ${round + 1} of ${options.rounds}`);
    own.push(ours(options.steps));
    for (const [i, peer] of peers.entries()) others[i]?.push(await peer.run(options.steps));
  }
  return { own, others };
}

/** The experiment of a config, and its step on a batch that lies ready, after plain, recorded and replayed ones. */
function warmStep(config: Config, threads: number | undefined) {
  if (config.stage !== 'identification')
    throw new UserError(`bench step: expected an experiment of stage identification, got ${config.stage}`);
  const { identities } = config.data;
  if (identities === null)
    throw new UserError('data.identities: expected how many there are (--set data.identities=N), got none');
  const experiment = new Experiment(config, identities);
  const { device } = experiment;
  if (threads !== undefined) device.configure({ threads });
  const ready = readyBatch(config, identities);
  let step = 0;
  const update = (batch: TrainingBatch) => experiment.update([batch], step++, 1e6);
  const ours = (count: number) =>
    Array.from({ length: count }, () => {
      const start = performance.now();
      update(ready);
      device.synchronize();
      return (performance.now() - start) / 1000;
    });
  ours(4); // plain, recorded, and two replays
  return { experiment, identities, device, ready, update, ours };
}

/** Answers every line `run COUNT` with the seconds of so many steps, for the `measureStep` of another process. */
export async function serveSteps(config: Config, threads: number | undefined): Promise<void> {
  const { ours } = warmStep(config, threads);
  console.log(JSON.stringify({}));
  for await (const line of createInterface({ input: process.stdin }))
    console.log(JSON.stringify(ours(Number(line.split(' ')[1]))));
}

/** @param watch made before any device was opened */
export async function measureStep(config: Config, watch: Watch, options: StepOptions) {
  const before = clocksOf(config.device);
  options.tell('warming up');
  const { experiment, identities, device, ready, update, ours } = warmStep(config, options.threads);
  const args = peerArguments(config, identities, device.statistics().threads);
  const torch = options.peers.map((kind) =>
    torchPeer(peerNames[kind], [...args, ...(kind === 'leaky' ? ['--leaky'] : [])]),
  );
  const opened: (Peer | Absent)[] = [];
  for (const program of [...torch, ...options.against]) opened.push(await openPeer(program));
  const peers = opened.filter((peer): peer is Peer => 'run' in peer);

  watch.reset();
  device.configure({ resetPeak: true });
  const counted = device.statistics();
  const { own, others } = await inTurns(ours, peers, options);
  const after = device.statistics();
  for (const peer of peers) peer.close();
  const times = own.flat();
  const total = times.reduce((sum, seconds) => sum + seconds, 0);
  const images = config.train.batch_size;
  const rate = byInverse(images, interval(times));
  const peerRates = opened.map((peer): PeerRate => {
    if ('absent' in peer) return peer;
    const theirs = others[peers.indexOf(peer)] ?? [];
    const ratios = theirs.map((list, i) => quantile(list, 0.5) / quantile(own[i] ?? [], 0.5));
    return { name: peer.name, rate: byInverse(images, interval(theirs.flat())), ratio: interval(ratios) };
  });
  const perStep = {
    nativeCalls: watch.count / times.length,
    kernelCalls: (after.kernelCalls - counted.kernelCalls) / times.length,
    launches: (after.launches - counted.launches) / times.length,
    systemAllocations: (after.systemAllocations - counted.systemAllocations) / times.length,
    typescriptShare: 1 - watch.native / 1000 / total,
    peakBytes: after.peak,
  };

  options.tell('profiling');
  experiment.rounds.replays = false; // so that single calls are seen
  update(ready); // takes memory anew from the system, which clears it within the first kernel that writes
  let holders = device.holders(12);
  experiment.onPhase = (phase) => {
    if (phase === 'backward') holders = device.holders(12); // when all activations are held
    watch.enter(phase);
  };
  const batches = await openBatches(config, options.loader, ready);
  const settle = () => {
    if (device.name === 'cuda') device.synchronize();
  };
  await watch.detailed(settle, async () => {
    for (let i = 0; i < profiledSteps; i++) {
      watch.enter('waiting for data');
      const batch = await batches.next();
      update(batch);
      watch.leave();
    }
  });
  await batches.close();
  experiment.dispose();
  return {
    ...circumstances(device, before),
    experiment: { ...describe(config, identities), loader: options.loader },
    milliseconds: interval(times.map((seconds) => 1000 * seconds)),
    ours: { name: 'turl', rate },
    peers: peerRates,
    perStep,
    phases: phasesOf(watch),
    operations: totals(watch.calls, options.sizes).map((one) => ({
      name: one.name,
      sizes: one.sizes,
      calls: one.calls / profiledSteps,
      milliseconds: one.milliseconds / profiledSteps,
    })),
    holders,
  };
}

export type StepReport = Awaited<ReturnType<typeof measureStep>>;

/** Milliseconds of a profiled step by phase, and how much of them was spent outside native calls. */
function phasesOf({ spans, calls }: Watch) {
  const sum = (list: readonly { start: number; end: number }[]) =>
    list.reduce((total, { start, end }) => total + end - start, 0) / profiledSteps;
  return phases.map((name) => {
    const milliseconds = sum(spans.filter((span) => span.name === name));
    const within = sum(calls.filter(({ phase }) => phase === name));
    return { name, milliseconds, outsideNative: milliseconds - within };
  });
}

function describe(config: Config, identities: number) {
  const { name, model, loss, precision, train } = config;
  return {
    name,
    model: model.name,
    inputSize: model.input_size,
    embeddingSize: model.embedding_size,
    groups: loss.groups,
    loss: loss.type,
    precision,
    batch: train.batch_size,
    identities,
  };
}
