/** Measures a protocol on embeddings: the figures of each task, with bootstrap intervals over people. */
import { bootstrapIntervals, type Interval, type Intervals } from '../bootstrap.js';
import {
  identification,
  identificationIntervals,
  personIntervals,
  search,
  type Identification,
  type IdentificationIntervals,
  type Search,
} from '../identification.js';
import { verification, type Verification } from '../metrics.js';
import { allowed, HighestScores, operatingPoints, type OperatingPoint } from '../operating-point.js';
import { tailIntervals, tailSize, type TailPairs } from '../tail-bootstrap.js';
import type { FusionName } from '../templates.js';
import {
  makeTemplates,
  pairScorer,
  searchAll,
  type SearchOptions,
  type SetFeatures,
  type Templates,
} from './set-templates.js';
import { Numbering } from './metadata.js';
import type { Comparisons, ProtocolSet, Task } from './protocol.js';

export interface MeasureOptions extends SearchOptions {
  readonly fusion: FusionName;
  /** Resamples of the bootstrap; 0: no intervals. */
  readonly resamples: number;
  readonly seed: number;
}

export interface VerificationPart {
  readonly name: string;
  readonly genuine: number;
  readonly impostor: number;
  readonly tarAtFar: readonly OperatingPoint[];
}

/** A figure as the mean over parts. */
export interface Mean {
  readonly mean: number;
  /** The population standard deviation over the parts; null with one part. */
  readonly std: number | null;
}

export type TaskResult =
  | {
      readonly kind: 'verification';
      readonly name: string;
      readonly tarAtFar: readonly ({ readonly far: number } & Mean)[];
      readonly intervals: readonly Interval[] | null;
      readonly parts: readonly VerificationPart[];
    }
  | {
      readonly kind: 'folds';
      readonly name: string;
      readonly verification: Verification;
      readonly intervals: Intervals | null;
    }
  | {
      readonly kind: 'identification';
      readonly name: string;
      readonly ranks: readonly ({ readonly rank: number } & Mean)[];
      readonly meanAveragePrecision: Mean | null;
      readonly tpirAtFpir: readonly ({ readonly fpir: number } & Mean)[];
      readonly intervals: IdentificationIntervals | null;
      readonly parts: readonly ({ readonly name: string } & Identification)[];
    }
  | {
      readonly kind: 'distractors';
      readonly name: string;
      /** Pairs of a probe and its mate. */
      readonly searches: number;
      readonly rankOne: readonly {
        readonly distractors: number;
        readonly rate: number;
        readonly interval: Interval | null;
      }[];
      readonly verification: VerificationPart;
      /** Of its TAR at FAR. */
      readonly intervals: readonly Interval[] | null;
    };

export interface Measured {
  readonly tasks: readonly TaskResult[];
  /** Templates without a usable image. */
  readonly failedTemplates: readonly number[];
}

function meanOf(values: readonly number[]): Mean {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return { mean, std: values.length > 1 ? Math.sqrt(variance) : null };
}

/** Numbers for the people of templates; a template whose person no table tells stands for one of its own. */
function peopleOf(set: Pick<ProtocolSet, 'people'>): { unit: Int32Array; count: number } {
  const numbers = new Numbering<string>();
  const unit = Int32Array.from(set.people, (person, template) =>
    numbers.of(person < 0 ? `template ${template}` : String(person)),
  );
  return { unit, count: numbers.keys.length };
}

function verifyPart(
  templates: Templates,
  part: Comparisons & { readonly name: string },
  far: readonly number[],
  { score, resamples }: MeasureOptions,
  unit: Int32Array,
): { part: VerificationPart; tail: TailPairs } {
  const scoreOf = pairScorer(templates, score);
  const total = part.genuine.length;
  const genuineCount = part.genuine.reduce((sum, one) => sum + one, 0);
  const impostorCount = total - genuineCount;
  const most = Math.max(...far);
  const right = new HighestScores(genuineCount);
  const wrong = new HighestScores(
    resamples > 0 ? tailSize(most, impostorCount) : allowed(most, impostorCount) + 1,
  );
  const [wrongFirst, wrongSecond] = [new Int32Array(impostorCount), new Int32Array(impostorCount)];
  const unitOf = (side: Int32Array, pair: number) => unit[side[pair] as number] as number;
  for (let i = 0; i < total; i++) {
    const value = scoreOf(part.first[i] as number, part.second[i] as number);
    if (part.genuine[i]) right.add(value, i);
    else {
      wrongFirst[wrong.total] = unitOf(part.first, i);
      wrongSecond[wrong.total] = unitOf(part.second, i);
      wrong.add(value, i);
    }
  }
  const ranked = (highest: HighestScores) => {
    const { scores, tags } = highest.descending();
    return {
      scores,
      first: tags.map((pair) => unitOf(part.first, pair)),
      second: tags.map((pair) => unitOf(part.second, pair)),
    };
  };
  const tail = {
    right: ranked(right),
    wrong: ranked(wrong),
    wrongWeight: (weights: Float64Array) => {
      let sum = 0;
      for (let i = 0; i < impostorCount; i++) {
        const [a, b] = [wrongFirst[i] as number, wrongSecond[i] as number];
        sum += a === b ? (weights[a] as number) : (weights[a] as number) * (weights[b] as number);
      }
      return sum;
    },
  };
  return {
    part: {
      name: part.name,
      genuine: genuineCount,
      impostor: impostorCount,
      tarAtFar: operatingPoints(tail.right.scores, wrong, far),
    },
    tail,
  };
}

type Of<K extends Task['kind']> = Extract<Task, { kind: K }>;
type ResultOf<K extends TaskResult['kind']> = Extract<TaskResult, { kind: K }>;

function measureVerification(
  set: ProtocolSet,
  templates: Templates,
  task: Of<'verification'>,
  options: MeasureOptions,
): ResultOf<'verification'> {
  const { unit, count } = peopleOf(set);
  const measured = task.parts.map((part) => verifyPart(templates, part, task.far, options, unit));
  const parts = measured.map(({ part }) => part);
  const tails = measured.map(({ tail }) => tail);
  return {
    kind: 'verification',
    name: task.name,
    tarAtFar: task.far.map((far, k) => ({
      far,
      ...meanOf(parts.map(({ tarAtFar }) => tarAtFar[k]?.rate ?? NaN)),
    })),
    intervals: options.resamples > 0 ? tailIntervals(tails, count, task.far, options) : null,
    parts,
  };
}

function measureFolds(
  set: ProtocolSet,
  templates: Templates,
  { name, far, comparisons, fold }: Of<'folds'>,
  { score, resamples, seed }: MeasureOptions,
): ResultOf<'folds'> {
  const { first, second, genuine } = comparisons;
  const scoreOf = pairScorer(templates, score);
  const raw = Float64Array.from(first, (a, i) => scoreOf(a, second[i] as number));
  // Below every score: a pair that cannot be compared is refused as soon as another is.
  const least = raw.reduce((low, value) => (value > -Infinity ? Math.min(low, value) : low), Infinity);
  const below = Number.isFinite(least) ? least - 1 : -1;
  const scored = {
    scores: raw.map((value) => (value === -Infinity ? below : value)),
    genuine: Array.from(genuine, (one) => one === 1),
  };
  const people = (side: Int32Array) => side.map((template) => set.people[template] ?? -1);
  return {
    kind: 'folds',
    name,
    verification: verification(scored, fold, far),
    intervals:
      resamples > 0
        ? bootstrapIntervals(
            scored,
            fold,
            far,
            { first: people(first), second: people(second) },
            { resamples, seed },
          )
        : null,
  };
}

function measureIdentification(
  set: ProtocolSet,
  templates: Templates,
  task: Of<'identification'>,
  options: MeasureOptions,
): ResultOf<'identification'> {
  const { ranks, fpir } = task;
  const searched = task.parts.map(({ gallery, probes }) => {
    const people = Int32Array.from(gallery, (template) => set.people[template] ?? -1);
    const entryOf = new Map(Array.from(gallery, (template, entry) => [template, entry]));
    const found: Search[] = [];
    searchAll(templates, probes, gallery, options, (probe, scores) => {
      const template = probes[probe] ?? -1;
      const person = set.people[template] ?? -1;
      const self = entryOf.get(template);
      if (self === undefined) found.push(search(scores, people, person));
      else {
        // A template is not compared with itself.
        scores[self] = -Infinity;
        const others = people.slice();
        others[self] = -1;
        found.push(search(scores, others, person));
      }
    });
    return found;
  });
  const parts = task.parts.map(({ name, gallery }, k) => ({
    name,
    ...identification(searched[k] ?? [], gallery.length, ranks, fpir),
  }));
  const open = parts.every((part) => part.open.length > 0) ? fpir : [];
  /** Over the parts that have it: one without mated probes has no ranks. */
  const meanOver = (
    of: (part: Identification) => number | undefined,
    all: readonly Identification[] = parts,
  ) =>
    meanOf(all.map(of).filter((figure): figure is number => figure !== undefined && !Number.isNaN(figure)));
  const figures = (all: readonly Identification[]) => ({
    ranks: ranks.map((rank, k) => ({ rank, rate: meanOver((part) => part.ranks[k]?.rate, all).mean })),
    meanAveragePrecision: meanOver((part) => part.meanAveragePrecision, all).mean,
    open: open.flatMap((limit, k) => {
      const points = all.flatMap((part) => part.open[k] ?? []);
      const [point] = points;
      return point && points.length === all.length
        ? [{ ...point, limit, rate: meanOf(points.map(({ rate }) => rate)).mean }]
        : [];
    }),
  });
  // Each part's probes are drawn by their people together: entry i of all parts' probes in a row.
  const all = searched.flatMap((found, part) => found.map((one) => ({ part, one })));
  const people = task.parts.flatMap(({ probes }) =>
    Array.from(probes, (template) => set.people[template] ?? -1),
  );
  const { resamples, seed } = options;
  return {
    kind: 'identification',
    name: task.name,
    ranks: ranks.map((rank, k) => ({ rank, ...meanOver((part) => part.ranks[k]?.rate) })),
    meanAveragePrecision: task.averagePrecision ? meanOver((part) => part.meanAveragePrecision) : null,
    tpirAtFpir: open.map((limit, k) => ({ fpir: limit, ...meanOver((part) => part.open[k]?.rate) })),
    intervals:
      resamples > 0
        ? identificationIntervals(
            people,
            (drawn) => {
              const byPart = searched.map((): Search[] => []);
              for (const i of drawn) {
                const entry = all[i];
                if (entry) byPart[entry.part]?.push(entry.one);
              }
              return figures(
                byPart.map((found, k) => identification(found, parts[k]?.gallery ?? 0, ranks, open)),
              );
            },
            { resamples, seed },
          )
        : null,
    parts,
  };
}

function measureDistractors(
  set: ProtocolSet,
  templates: Templates,
  { name, probes, distractors, sizes, member, far }: Of<'distractors'>,
  options: MeasureOptions,
): ResultOf<'distractors'> {
  // A distractor's sets, as a number; few of all the possible ones occur, as a rule each list contains the one before.
  const kinds = [...new Set(member)];
  const kindOf = Int32Array.from(member, (bits) => kinds.indexOf(bits));
  const impostors = probes.length * (sizes.at(-1) ?? 0);
  const most = Math.max(...far);
  const wrong = new HighestScores(
    options.resamples > 0 ? tailSize(most, impostors) : allowed(most, impostors) + 1,
  );
  const largest = kinds.map((bits) => (bits & (1 << (sizes.length - 1))) !== 0);
  /** The highest score of each probe with the distractors of each size. */
  const highest = new Float64Array(probes.length * sizes.length);
  searchAll(templates, probes, distractors, options, (probe, scores) => {
    const best = new Float64Array(kinds.length).fill(-Infinity);
    for (let i = 0; i < scores.length; i++) {
      const [value, kind] = [scores[i] as number, kindOf[i] as number];
      if (value > (best[kind] as number)) best[kind] = value;
      if (largest[kind]) wrong.add(value, probe);
    }
    sizes.forEach((_, size) => {
      highest[probe * sizes.length + size] = Math.max(
        ...kinds.map((bits, kind) => (bits & (1 << size) ? (best[kind] as number) : -Infinity)),
      );
    });
  });
  const right = new HighestScores(Infinity);
  const found: { person: number; hits: boolean[] }[] = [];
  searchAll(templates, probes, probes, options, (probe, scores) => {
    const person = set.people[probes[probe] ?? -1] ?? -1;
    probes.forEach((template, other) => {
      if (other === probe || set.people[template] !== person) return;
      const value = scores[other] as number;
      if (probe < other) right.add(value, probe);
      found.push({
        person,
        hits: sizes.map((_, size) => value > (highest[probe * sizes.length + size] as number)),
      });
    });
  });
  const { unit, count } = peopleOf({ people: probes.map((template) => set.people[template] ?? -1) });
  const { scores: rights, tags: mates } = right.descending();
  const { scores: wrongs, tags: impostorProbes } = wrong.descending();
  const owner = (probe: number) => unit[probe] as number;
  const tail: TailPairs = {
    right: { scores: rights, first: mates.map(owner), second: mates.map(owner) },
    wrong: {
      scores: wrongs,
      first: impostorProbes.map(owner),
      second: new Int32Array(wrongs.length).fill(-1),
    },
    wrongWeight: (weights) =>
      (sizes.at(-1) ?? 0) * unit.reduce((sum, person) => sum + (weights[person] as number), 0),
  };
  const intervals = distractorIntervals(found, sizes.length, options);
  return {
    kind: 'distractors',
    name,
    searches: found.length,
    rankOne: sizes.map((distractorCount, size) => ({
      distractors: distractorCount,
      rate: meanOf(found.map(({ hits }) => Number(hits[size]))).mean,
      interval: intervals?.[size] ?? null,
    })),
    verification: {
      name,
      genuine: rights.length,
      impostor: wrong.total,
      tarAtFar: operatingPoints(rights, wrong, far),
    },
    intervals: options.resamples > 0 ? tailIntervals([tail], count, far, options) : null,
  };
}

/** Bootstrap intervals of the rank-1 rates, drawing people with all their searches. */
function distractorIntervals(
  found: readonly { person: number; hits: readonly boolean[] }[],
  sizes: number,
  { resamples, seed }: MeasureOptions,
): readonly Interval[] | null {
  if (resamples === 0 || found.length === 0) return null;
  return Array.from({ length: sizes }, (_, size) =>
    personIntervals(
      found.map(({ person }) => person),
      found.map(({ hits }) => Number(hits[size])),
      { resamples, seed },
    ),
  );
}

/** All tasks of a set. */
export function measure(set: ProtocolSet, images: SetFeatures, options: MeasureOptions): Measured {
  const templates = makeTemplates(set, images, options.fusion);
  return {
    failedTemplates: Array.from(templates.failed.keys()).filter((template) => templates.failed[template]),
    tasks: set.tasks.map((task): TaskResult => {
      switch (task.kind) {
        case 'verification':
          return measureVerification(set, templates, task, options);
        case 'folds':
          return measureFolds(set, templates, task, options);
        case 'identification':
          return measureIdentification(set, templates, task, options);
        case 'distractors':
          return measureDistractors(set, templates, task, options);
      }
    }),
  };
}
