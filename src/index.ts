/** turl as a library: tensors, differentiation, networks and the paper's method. Training from files is the command line's. */
export * from './tensor/index.js';
export * from './autograd/index.js';
export * from './nn/index.js';
export * from './method/index.js';
