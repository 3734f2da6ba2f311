export { Tape, noGrad, record, isRecording, type Backward } from './tape.js';
export { checkGradients, type GradientCheckOptions } from './gradient-check.js';
export { prelu } from './ops/prelu.js';
export { groupNormalize } from './ops/group-normalize.js';
export { marginSoftmax, type MarginSoftmax, type MarginSoftmaxOptions } from './ops/margin-softmax.js';
export { decorrelation } from './ops/decorrelation.js';
export { conv2d, type ConvolutionOptions } from './ops/conv2d.js';
export { matmul, type MatmulOptions } from './ops/matmul.js';
export { linear } from './ops/linear.js';
