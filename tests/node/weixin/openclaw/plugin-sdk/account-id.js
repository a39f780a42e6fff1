export const normalizeAccountId = (id) => id.toLowerCase().replace(/[^a-z0-9_-]/g, "-");
