// What a training step costs in numbers that repeat: calls of kernels, launches, blocks taken from the system, bytes at the peak. The step is a
// tiny one of the full method; the counts do not depend on the machine's speed.
import { configFrom, type Config } from '../config/index.js';
import { augmentColumns } from '../data/augment.js';
import { variationNames } from '../data/variations.js';
import { device } from '../tensor/device.js';
import { Experiment } from '../train/experiment.js';

export type Counts = Readonly<Record<string, number>>;

const [batchSize, side, identities] = [8, 16, 20];

/** A tiny experiment of the full method, and a batch for it. */
function tiny(device: 'cpu' | 'emulated', precision: Config['precision']) {
  const config = configFrom({
    device,
    precision,
    model: {
      name: 'iresnet-small',
      input_size: side,
      channels: [4, 4, 8, 8],
      blocks: [1, 1, 1, 1],
      embedding_size: 16,
    },
    data: { source: 'synthetic', identities, image_size: side },
    loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
    optimizer: { lr: 0.01 },
    train: { batch_size: batchSize, clip_norm: 10 },
  });
  const batch = {
    pixels: new Uint8Array(batchSize * side * side * 3).map((_, i) => (31 * i) % 256),
    labels: Int32Array.from({ length: batchSize }, (_, i) => i % identities),
    augmentation: new Int32Array(batchSize * augmentColumns),
    variations: Float32Array.from({ length: batchSize * variationNames.length }, (_, i) => i % 2),
  };
  return { experiment: new Experiment(config, identities), batch };
}

/**
 * Counts of the third step, by precision and count: on cpu, and of the launches on a GPU those of the emulated one, which divides work as a
 * smaller one would. The devices must hold nothing else.
 */
export function countStep(): Counts {
  const counts: Record<string, number> = {};
  for (const precision of ['float32', 'bfloat16'] as const) {
    const cpu = device('cpu');
    cpu.configure({ threads: 1, trim: true });
    const before = cpu.statistics().live;
    const { experiment, batch } = tiny('cpu', precision);
    experiment.rounds.replays = false;
    for (let step = 0; step < 2; step++) experiment.update([batch], step, 3);
    cpu.configure({ resetPeak: true });
    const start = cpu.statistics();
    experiment.update([batch], 2, 3);
    const end = cpu.statistics();
    counts[`${precision} calls of kernels`] = end.kernelCalls - start.kernelCalls;
    counts[`${precision} blocks from the system`] = end.systemAllocations - start.systemAllocations;
    counts[`${precision} bytes between steps`] = end.live - before;
    experiment.rounds.replays = true;
    for (let step = 3; step < 6; step++) experiment.update([batch], step, 6);
    // In bfloat16 the products' temporary memory depends on the processor's instructions: 288 to 305 kB here.
    if (precision === 'float32') {
      counts['float32 bytes at the peak'] = end.peak - before;
      counts['float32 bytes between replayed steps'] = cpu.statistics().live - before;
    }
    experiment.dispose();
    counts[`${precision} launches on a GPU`] = launchesOnGpu(precision);
  }
  return counts;
}

function launchesOnGpu(precision: Config['precision']): number {
  const gpu = device('emulated');
  const { experiment, batch } = tiny('emulated', precision);
  experiment.rounds.replays = false;
  experiment.update([batch], 0, 2);
  const before = gpu.statistics().launches;
  experiment.update([batch], 1, 2);
  const after = gpu.statistics().launches;
  experiment.dispose();
  return after - before;
}

/** One sentence for each count that is above the limit or without one. */
export function grown(counts: Counts, limits: Counts): string[] {
  return Object.entries(counts).flatMap(([name, count]) => {
    const limit = limits[name];
    if (limit === undefined) return [`${name}: ${count}, bench/gate.json has no limit`];
    return count > limit ? [`${name}: ${count}, bench/gate.json allows ${limit}`] : [];
  });
}
