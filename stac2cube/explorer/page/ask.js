// Questions to the server beside this page. Addresses are relative, so that tunnels and proxies do not matter.

export async function ask(name, said = {}) {
  let answer;
  try {
    answer = await fetch(name, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(said),
    });
  } catch {
    throw new Error("stac2cube does not answer: has it ended, or the tunnel to it?");
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.problem);
  return body;
}

export async function land() {
  return (await fetch("land.json")).json();
}

export async function asBase64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
