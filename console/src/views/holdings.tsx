export function Holdings() { return <h1>Holdings</h1>; }
