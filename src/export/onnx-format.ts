/**
 * ONNX files: the part of the format's messages (onnx.proto3, IR version 8) that networks of convolutions need, and their encoding.
 */
import protobuf from 'protobufjs';

/** The version of the operators' definitions. */
export const opset = 17;

/** Field numbers are those of onnx.proto3. */
const messages = `
syntax = "proto3";
message Attribute { string name = 1; float f = 2; int64 i = 3; bytes s = 4; repeated float floats = 7; repeated int64 ints = 8; int32 type = 20; }
message Node { repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4; repeated Attribute attribute = 5; }
message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
message Shape { repeated Dimension dim = 1; }
message TensorType { int32 elem_type = 1; Shape shape = 2; }
message Type { oneof value { TensorType tensor_type = 1; } }
message Value { string name = 1; Type type = 2; string doc_string = 3; }
message Tensor { repeated int64 dims = 1; int32 data_type = 2; repeated float float_data = 4; repeated int64 int64_data = 7; string name = 8; bytes raw_data = 9; }
message Graph { repeated Node node = 1; string name = 2; repeated Tensor initializer = 5; string doc_string = 10; repeated Value input = 11; repeated Value output = 12; }
message OperatorSet { string domain = 1; int64 version = 2; }
message Entry { string key = 1; string value = 2; }
message Model { int64 ir_version = 1; string producer_name = 2; string producer_version = 3; string doc_string = 6; Graph graph = 7; repeated OperatorSet opset_import = 8; repeated Entry metadata_props = 14; }
`;

const { root } = protobuf.parse(messages, { keepCase: true });
export const modelType = root.lookupType('Model');

/** TensorProto.DataType. */
export const elementTypes = { float32: 1, uint8: 2, int64: 7 } as const;
export type ElementType = keyof typeof elementTypes;

export type AttributeValue = number | readonly number[] | { readonly float: number };

export interface OnnxValue {
  name: string;
  type: ElementType;
  /** A name stands for a size that is not fixed. */
  shape: readonly (number | string)[];
  about: string;
}

/** Collects the nodes of a graph. */
export class OnnxGraph {
  readonly #nodes: object[] = [];
  readonly #constants = new Map<string, object>();

  /** Adds a node and gives the name of its output, which is the node's. Whole numbers become integers unless said to be a float. */
  node(
    name: string,
    operator: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): string {
    this.#nodes.push({
      input: inputs,
      output: [name],
      name,
      op_type: operator,
      attribute: Object.entries(attributes).map(([key, value]) => {
        if (typeof value === 'number') return { name: key, i: value, type: 2 };
        return 'float' in value
          ? { name: key, f: value.float, type: 1 }
          : { name: key, ints: value, type: 7 };
      }),
    });
    return name;
  }

  /** Adds a constant of float32, or of int64 given as whole numbers, and gives its name; a name that is there already is kept. */
  constant(name: string, values: Float32Array | readonly number[], shape: readonly number[]): string {
    const [type, data] =
      values instanceof Float32Array
        ? (['float32', values] as const)
        : (['int64', BigInt64Array.from(values, BigInt)] as const);
    if (!this.#constants.has(name))
      this.#constants.set(name, {
        name,
        dims: shape,
        data_type: elementTypes[type],
        raw_data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      });
    return name;
  }

  /** The whole file. */
  encode(about: {
    name: string;
    version: string;
    inputs: readonly OnnxValue[];
    outputs: readonly OnnxValue[];
    metadata: Readonly<Record<string, string>>;
  }): Uint8Array {
    const valueOf = ({ name, type, shape, about: text }: OnnxValue) => ({
      name,
      doc_string: text,
      type: {
        tensor_type: {
          elem_type: elementTypes[type],
          shape: { dim: shape.map((n) => (typeof n === 'string' ? { dim_param: n } : { dim_value: n })) },
        },
      },
    });
    return modelType
      .encode({
        ir_version: 8,
        producer_name: 'turl',
        producer_version: about.version,
        opset_import: [{ domain: '', version: opset }],
        metadata_props: Object.entries(about.metadata).map(([key, value]) => ({ key, value })),
        graph: {
          name: about.name,
          node: this.#nodes,
          initializer: [...this.#constants.values()],
          input: about.inputs.map(valueOf),
          output: about.outputs.map(valueOf),
        },
      })
      .finish();
  }
}
