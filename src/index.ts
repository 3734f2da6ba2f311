export * from './tensor/index.js';
export * from './autograd/index.js';
export * from './method/index.js';
