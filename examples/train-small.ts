/**
 * Three spirals told apart by a small network, trained with the paper's softmax (Eq. 8): 8 numbers in K = 2 sub-embeddings,
 * constant confidence 20, margin 3. The last line is the accuracy on points never trained on.
 */
import { BatchNormPReLU, Initialiser, Linear, Module, Optimizer, Sequential, Tape } from 'turl';
import { affine, groupNormalize, marginSoftmax, mean, noGrad, scope, tensor, type Tensor } from 'turl';

const [arms, groups, confidence, margin] = [3, 2, 20, 3];

class Classifier extends Module {
  readonly body: Sequential;
  readonly prototypes: Tensor;
  constructor(init: Initialiser) {
    super();
    const block = (inputs: number) =>
      new Sequential(new Linear(init, inputs, 64), new BatchNormPReLU(init, 64));
    this.body = new Sequential(block(2), block(64), new Linear(init, 64, 8));
    this.prototypes = init.normal([arms, 8], 1);
  }
  forward(points: Tensor, labels: Tensor) {
    const f = groupNormalize(this.body.forward(points), groups);
    return marginSoftmax(affine(f, confidence / groups), this.prototypes, labels, { groups, margin });
  }
}

/** `count` points of the spirals, `shift` apart from those of another call: points [count, 2] and the arm of each [count]. */
function spirals(count: number, shift: number): { points: Tensor; labels: Tensor } {
  const labels = Int32Array.from({ length: count }, (_, i) => i % arms);
  const points = Array.from(labels).flatMap((arm, i) => {
    const [radius, turn] = [(i + shift) / count, 4 * ((i + shift) / count) + (2 * Math.PI * arm) / arms];
    return [radius * Math.cos(turn), radius * Math.sin(turn)];
  });
  return { points: tensor(points, [count, 2]), labels: tensor(labels) };
}

const network = new Classifier(new Initialiser(1));
const optimizer = new Optimizer(network.parameters(), { name: 'sgd', weightDecay: 1e-4 });
const [training, test] = [spirals(300, 0), spirals(300, 0.5)];
for (let step = 0; step < 200; step++)
  scope(() => {
    const tape = new Tape();
    tape.backward(tape.record(() => mean(network.forward(training.points, training.labels).loss)));
    optimizer.step(0.05);
  });
network.evaluate();
const { hit } = noGrad(() => network.forward(test.points, test.labels));
console.log(`accuracy on new points: ${mean(hit).item().toFixed(3)}`);
