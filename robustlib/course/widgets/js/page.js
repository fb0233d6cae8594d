// Stands in for a widget's model on a page without a kernel: values that can be read, set and observed.

const pageModel = (state) => {
  const listeners = {};
  return {
    get: (name) => state[name],
    set: (name, value) => {
      if (state[name] === value) return;
      state[name] = value;
      for (const listener of listeners[`change:${name}`] || []) listener();
    },
    save_changes: () => {},
    on: (event, listener) => { (listeners[event] = listeners[event] || []).push(listener); },
    off: (event, listener) => { listeners[event] = (listeners[event] || []).filter((other) => other !== listener); },
  };
};
