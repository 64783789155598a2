// In place of decoders that zarrita knows and no store needs.

export default undefined;
