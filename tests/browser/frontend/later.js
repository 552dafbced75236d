// Loaded by main.js when it is needed, as bundlers do with what they split off.
export const loaded = 'later'
